"""Load weights of other networks into a model with families.

Every module around a member has :func:`translate` as a hook before it loads a
state dict, so ``init_cfg``, ``load_from`` and ``load_state_dict`` need no
flag. The role of a layer in the model decides what it loads:

- A parent or a plain layer loads its kernel. If it is a child in the
  checkpoint, its gate must be open.
- A child with the same parent in the checkpoint loads its adapter.
- Another child loads its gate. It loads its modulation if its kernel and the
  parent's come from one kernel; else it starts with the parent's kernel, and
  the log says what is lost.
"""

import threading
import weakref
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import BadInput
from ..families.sites import walk
from ..layers import KernelDNALayer
from ..openmmlab.log import warn
from .notes import BAKED, GATES, PARENTS, describe, members, note, noted
from .source import STATIC, Source, below, derive

_FIRST = {
    'squeeze.weight': 'squeeze',
    'excite.weight': 'excite',
    'excite.bias': 'bias',
}


class _Load(threading.local):
    """The current load of this thread, identified by its list of errors."""

    errors: list[str] | None = None
    inside: weakref.WeakSet[nn.Module] = weakref.WeakSet()
    """The modules inside the one that translated the state dict."""


_load = _Load()


def watch(model: nn.Module) -> None:
    """Make every module around a member translate what it loads."""
    around = {
        module
        for _, layer, modules in walk(model)
        if 'family' in vars(layer)
        for module in (layer, *(m for _, m in modules))
    }
    for module in around:
        hooks = module._load_state_dict_pre_hooks.values()
        if not any(getattr(h, 'hook', None) is translate for h in hooks):
            # The public names of these two are newer than torch 2.4.
            module._register_load_state_dict_pre_hook(
                translate, with_module=True
            )
            module._register_state_dict_hook(note)


def unwatch(model: nn.Module) -> list[nn.Module]:
    """Undo :func:`watch` in a model, and return the watched modules."""
    found = []
    for module in model.modules():
        hooks = module._load_state_dict_pre_hooks
        for key, hook in list(hooks.items()):
            if getattr(hook, 'hook', None) is translate:
                del hooks[key]
                found.append(module)
        notes = module._state_dict_hooks
        for key in [k for k, hook in notes.items() if hook is note]:
            del notes[key]
    return found


def _refuse_baked(
    names: Iterable[str], state: Mapping, prefix: str, metadata: Mapping
) -> None:
    """Refuse baked children: their own kernels would be lost here."""
    gates = tuple(f'{prefix}{name}.gate.' for name in names)
    if BAKED in metadata or any(key.startswith(gates) for key in state):
        raise BadInput(
            'the checkpoint is baked, and the model is not: load it with '
            'mmkdna.load_baked(model, PATH), or take the checkpoint that it '
            'was baked from'
        )


def _rename_first(state: dict[str, Tensor], prefix: str) -> None:
    """Give a routing's entries the names of now.

    In the very first files it held linear layers.
    """
    for key in [key for key in state if key.startswith(prefix)]:
        layer, routing, entry = key.rpartition('adapter.routing.')
        if routing and entry in _FIRST:
            state[f'{layer}{routing}{_FIRST[entry]}'] = state.pop(key)


@torch.no_grad()
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
    """Rewrite a state dict in place for the families of the module.

    The arguments are those of a hook before a module loads a state dict.

    Raises:
        BadInput: If the checkpoint has other families, and the model has no
            place for some of its weights.
    """
    if _load.errors is error_msgs and module in _load.inside:
        return
    _load.errors = error_msgs
    _load.inside = weakref.WeakSet([*module.modules()][1:])
    layers: dict[str, Any] = dict(module.named_modules(remove_duplicate=False))
    here, notes = members(module), describe(module)
    ours = notes[PARENTS]
    _refuse_baked(here, state_dict, prefix, local_metadata)
    _rename_first(state_dict, prefix)
    theirs = noted(local_metadata, PARENTS)
    gates = noted(local_metadata, GATES) or {}
    _refuse_other_gates(gates, notes[GATES])
    source = Source(state_dict, prefix, theirs, ours, layers, gates)
    faded = [
        source.drop(name, entry)
        for name in source.parents
        for entry in ('residual', 'fade')
        if entry in source.layers[name]
    ]
    if faded:
        _warn('residuals of an earlier version are dropped', faded)
    for name, member in here.items():
        kernel = source.weight(name)
        if kernel is not None and kernel.shape != member.kernel_shape:
            # torch's own text for a size mismatch.
            error_msgs.append(
                f'size mismatch for {source.drop(name, "weight")}: '
                f'{tuple(kernel.shape)} in the checkpoint, '
                f'{member.kernel_shape} in the model.'
            )
    new, lost = _moved(source, layers, ours)
    for name, entries in new.items():
        source.put(name, entries)
    log_loss(lost)
    _say_who_follows(source, here)


def _refuse_other_gates(
    there: Mapping[str, str], here: Mapping[str, str]
) -> None:
    """Refuse gates that were trained as another function."""
    for name in there.keys() & here.keys():
        if there[name] != here[name]:
            raise BadInput(
                f'the gate of {name} is {there[name]!r} in the checkpoint and '
                f'{here[name]!r} in this model: the same weights would '
                f'compute something else. Set gate={there[name]!r} in the '
                'conv_cfg'
            )


def _moved(
    source: Source, layers: Mapping[str, Any], ours: Mapping[str, str]
) -> tuple[dict[str, dict[str, Tensor]], dict[str, float]]:
    """New entries of the layers whose role differs from the checkpoint.

    The second value: how far new children start from their own kernels.
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
            new[name] = source.adapter(name, layer, here, kernel)
            # A parent without a name is outside of the module.
            shared = source.kernel(here) if here else None
            if shared is None and layer.family.parent is not None:
                shared = layer.family.parent.own_kernel()
            start = derive(shared, below(new[name], STATIC))
            lost[name] = distance(kernel, start)
    if refused:
        raise source.refusal(refused)
    return new, lost


def distance(kernel: Tensor, other: Tensor | None) -> float:
    """The relative distance of ``other`` from a kernel; 1 without other.

    It is 0 for a kernel on the meta device.
    """
    if kernel.is_meta:
        return 0.0
    if other is None or other.is_meta:
        return 1.0
    kernel = kernel.detach().float()
    error = (kernel - other.detach().to(kernel)).norm()
    error /= kernel.norm().clamp_min(1e-30)
    # A kernel with NaN is infinitely far.
    return float(error.nan_to_num(torch.inf))


def log_loss(lost: Mapping[str, float]) -> None:
    """Log how far children start from their own kernels."""
    # Ignore rounding.
    errors = [error for error in lost.values() if error > 1e-6]
    if errors:
        warn(
            f"KernelDNA: {len(errors)} children start with their parent's "
            f'kernel, which differs from their own by {min(errors):.2f} to '
            f'{max(errors):.2f} (relative): later layers no longer fit, '
            'train the network again.'
        )


def _say_who_follows(
    source: Source, here: Mapping[str, KernelDNALayer]
) -> None:
    """Warn if a load changes a parent's kernel but has no children of it."""
    names = {layer: name for name, layer in here.items()}
    loaded = {
        layer: name for name, layer in here.items() if source.layers.get(name)
    }
    for parent, name in loaded.items():
        left = [c for c in parent.family.children if c not in loaded]
        if parent.adapter is None and left:
            _warn(
                f'loading {source.key(name, "weight")} also changes the '
                f'kernels of {len(left)} children that this checkpoint does '
                'not have',
                [names[child] for child in left if child in names],
            )


def _warn(what: str, names: list[str]) -> None:
    which = ': ' + ', '.join(names[:3]) if names else ''
    more = f' and {len(names) - 3} more' if len(names) > 3 else ''
    warn(f'KernelDNA: {what}{which}{more}')
