"""Weights of other networks into a model with families.

Every module around a member has :func:`translate` as a hook before it loads a
state dict, so ``init_cfg``, ``load_from`` and ``load_state_dict`` need no
flag. In a checkpoint, the kernel of each layer is its own or, of a child,
another's times a modulation; plain networks have kernels of the first kind
alone. What a layer here is decides what it takes of that:

- a parent or a plain layer takes its kernel, whose gate has to be open;
- a child with the parent that it has there takes its adapter as it is;
- another child takes its gate, and its modulation where its kernel and its
  parent's are one times a modulation; else it starts as its parent, and the
  log says what is lost.
"""

import logging
import threading
import weakref
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from ..errors import BadInput
from ..families.sites import walk
from ..layers import KernelDNALayer
from .source import STATIC, Source, below, derive

PLAN = 'kernel_dna_families'
"""Where a state dict's metadata has the parent of each child."""
BAKED = 'kernel_dna_baked'
"""Where it says that the model was baked."""


class _Load(threading.local):
    """The load under way in this thread, known by its list of errors."""

    errors: list[str] | None = None
    inside: weakref.WeakSet[nn.Module] = weakref.WeakSet()
    """What is in the module that has translated it."""


_load = _Load()


def watch(model: nn.Module) -> None:
    """Have every module around a member translate what it loads."""
    around = {
        id(module): module
        for _, layer, modules in walk(model)
        if 'family' in vars(layer)
        for module in (layer, *(m for _, m in modules))
    }
    for module in around.values():
        hooks = module._load_state_dict_pre_hooks.values()
        if not any(getattr(h, 'hook', None) is translate for h in hooks):
            # The public names of these two are newer than torch 2.4.
            module._register_load_state_dict_pre_hook(
                translate, with_module=True
            )
            module._register_state_dict_hook(_note_plan)


def unwatch(model: nn.Module) -> list[nn.Module]:
    """Undo :func:`watch` in a model, and return the modules it watched."""
    found = []
    for module in model.modules():
        hooks = module._load_state_dict_pre_hooks
        for key, hook in list(hooks.items()):
            if getattr(hook, 'hook', None) is translate:
                del hooks[key]
                found.append(module)
        notes = module._state_dict_hooks
        for key in [k for k, hook in notes.items() if hook is _note_plan]:
            del notes[key]
    return found


def _note_plan(
    module: nn.Module, state: Any, prefix: str, local_metadata: dict
) -> None:
    """Leave the parent of each child beside the outermost module's version."""
    for key, metadata in getattr(state, '_metadata', {}).items():
        if key.startswith(prefix):
            metadata.pop(PLAN, None)
    local_metadata[PLAN] = plan(module)


def plan(module: nn.Module) -> dict[str, str]:
    """The parent of each child, by the names that a state dict has.

    A layer under several names has an entry for each; a parent that is not
    in the module is ``''``.
    """
    members = _members(module)
    names: dict[Any, str] = {
        layer: name for name, layer in reversed(members.items())
    }
    return {
        name: names.get(layer.family.parent, '')
        for name, layer in members.items()
        if layer.adapter is not None
    }


def _members(module: nn.Module) -> dict[str, KernelDNALayer]:
    # By what it has: while a model initialises, members are disguised.
    return {
        name: layer  # type: ignore[misc]
        for name, layer in module.named_modules(remove_duplicate=False)
        if 'family' in vars(layer)
    }


@torch.no_grad()
def _refuse_baked(
    members: Iterable[str], state: Mapping, prefix: str, metadata: Mapping
) -> None:
    """A baked child has a kernel of its own, which would be lost here."""
    gates = tuple(f'{prefix}{name}.gate.' for name in members)
    if BAKED in metadata or any(key.startswith(gates) for key in state):
        raise BadInput(
            'the checkpoint is baked, and the model is not: load it with '
            'mmkdna.load_baked(model, PATH), or take the checkpoint that it '
            'was baked from'
        )


def translate(
    module: nn.Module,
    state_dict: dict[str, Tensor],
    prefix: str,
    local_metadata: dict,
    strict: bool,
    missing_keys: list[str],
    unexpected_keys: list[str],
    error_msgs: list[str],
) -> None:
    """Rewrite weights as those of the families here, in place.

    The arguments are those of a hook before a module loads a state dict.

    Raises:
        BadInput: If the checkpoint has other families, and what it learned
            has no place here.
    """
    if _load.errors is error_msgs and module in _load.inside:
        return
    _load.errors = error_msgs
    _load.inside = weakref.WeakSet([*module.modules()][1:])
    layers: dict[str, Any] = dict(module.named_modules(remove_duplicate=False))
    members, ours = _members(module), plan(module)
    _refuse_baked(members, state_dict, prefix, local_metadata)
    noted = local_metadata.get(PLAN)
    source = Source(state_dict, prefix, noted, ours, layers)
    faded = [
        source.drop(name, entry)
        for name in source.parents
        for entry in ('residual', 'fade')
        if entry in source.layers[name]
    ]
    if faded:
        _warn('residuals of an earlier version are dropped', faded)
    for name, member in members.items():
        kernel = source.weight(name)
        if kernel is not None and kernel.shape != member.kernel_shape:
            # As torch does for what it loads.
            error_msgs.append(
                f'size mismatch for {source.drop(name, "weight")}: '
                f'{tuple(kernel.shape)} in the checkpoint, '
                f'{member.kernel_shape} in the model.'
            )
    new, lost = _moved(source, layers, ours)
    for name, entries in new.items():
        source.put(name, entries)
    log_loss(lost)
    _say_who_follows(source, members)


def _moved(
    source: Source, layers: Mapping[str, Any], ours: Mapping[str, str]
) -> tuple[dict[str, dict[str, Tensor]], dict[str, float]]:
    """What layers in another role than in the checkpoint get of it.

    And how far the new children start from kernels of their own.
    """
    new, lost, refused = {}, {}, []
    for name, layer in layers.items():
        there, here = source.parents.get(name), ours.get(name)
        absent = there is None and source.weight(name) is None
        if there == here or absent:
            continue
        kernel = source.kernel(name)
        if kernel is None or (
            here is None and not source.is_open(name, layer)
        ):
            refused.append(name)
        elif here is None:
            new[name] = {'weight': kernel}
        else:
            new[name] = source.adapter(name, layer, here)
            # Without a name it is outside.
            shared = source.kernel(here) if here else None
            if shared is None and layer.family.parent is not None:
                shared = layer.family.parent.own_kernel()
            start = derive(shared, below(new[name], STATIC))
            lost[name] = distance(kernel, start)
    if refused:
        raise source.refusal(refused)
    return new, lost


def distance(kernel: Tensor, other: Tensor | None) -> float:
    """How far another kernel is off one, relative; 1 without another.

    Nothing is lost of a kernel on the meta device.
    """
    if kernel.is_meta:
        return 0.0
    if other is None or other.is_meta:
        return 1.0
    kernel = kernel.detach().float()
    error = (kernel - other.detach().to(kernel)).norm()
    error /= kernel.norm().clamp_min(1e-30)
    # NaN in a kernel is as far off as can be.
    return float(error.nan_to_num(torch.inf))


def log_loss(lost: Mapping[str, float]) -> None:
    """Say how far children start from kernels of their own."""
    # Rounding aside.
    errors = [error for error in lost.values() if error > 1e-6]
    if errors:
        print_log(
            f"KernelDNA: {len(errors)} children start with their parent's "
            f'kernel, which differs from their own by {min(errors):.2f} to '
            f'{max(errors):.2f} (relative): later layers no longer fit, '
            'train the network again.',
            'current',
            logging.WARNING,
        )


def _say_who_follows(
    source: Source, members: Mapping[str, KernelDNALayer]
) -> None:
    """A parent's kernel alone changes its children, too: say so."""
    names = {layer: name for name, layer in members.items()}
    loaded = {
        layer: name
        for name, layer in members.items()
        if source.layers.get(name)
    }
    for parent, name in loaded.items():
        left = [c for c in parent.family.children if c not in loaded]
        if parent.adapter is None and left:
            _warn(
                f'{source.key(name, "weight")} is loaded, and with it changes '
                f'the kernel of {len(left)} children that this checkpoint has '
                'nothing of',
                [names[child] for child in left if child in names],
            )


def _warn(what: str, names: list[str]) -> None:
    which = ': ' + ', '.join(names[:3]) if names else ''
    more = f' and {len(names) - 3} more' if len(names) > 3 else ''
    print_log(f'KernelDNA: {what}{which}{more}', 'current', logging.WARNING)
