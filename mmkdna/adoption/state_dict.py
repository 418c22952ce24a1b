"""Weights of other networks into a model with families.

Every module around a member has :func:`translate` as a hook before it loads a
state dict, so ``init_cfg``, ``load_from`` and ``load_state_dict`` need no
flag. A plain network's weights give each parent its kernel; a child starts as
its parent.
"""

import logging
from collections.abc import Iterator, MutableMapping
from typing import Any

from mmengine.logging import print_log
from torch import Tensor, nn

from ..errors import BadInput
from ..families.sites import walk
from ..layers import Adapter, KernelDNALayer
from ..layers.adapter import modulate

PLAN = 'kernel_dna_families'
"""Where a state dict's metadata has the parent of each child."""
CHILD = '.adapter.static.filter'
FADED = ('.residual', '.fade')
State = MutableMapping[str, Tensor]


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


def _note_plan(
    module: nn.Module, state: Any, prefix: str, local_metadata: dict
) -> None:
    """Leave the parent of each child beside the outermost module's version."""
    for key, below in getattr(state, '_metadata', {}).items():
        if key.startswith(prefix):
            below.pop(PLAN, None)
    local_metadata[PLAN] = plan(module)


def plan(module: nn.Module) -> dict[str, str]:
    """The parent of each child, by the names that a state dict has.

    A layer under several names has an entry for each; a parent that is not
    in the module is ``''``.
    """
    names = {layer: name for name, layer in reversed(_members(module))}
    return {
        name: names.get(layer.family.parent, '')
        for name, layer in _members(module)
        if layer.adapter is not None
    }


def _members(module: nn.Module) -> list[tuple[str, KernelDNALayer]]:
    # By what it has: while a model initialises, members are disguised.
    return [
        (name, layer)  # type: ignore[misc]
        for name, layer in module.named_modules(remove_duplicate=False)
        if 'family' in vars(layer)
    ]


def translate(
    module: nn.Module,
    state_dict: State,
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
    state = _Part(state_dict, prefix)
    faded = [key for key in state if key.endswith(FADED)]
    for key in faded:
        del state[key]
    if faded:
        _warn('residuals of an earlier version are dropped', faded)
    ours, theirs = plan(module), local_metadata.get(PLAN)
    _unshare(module, state, ours, theirs)
    lost = {}
    for name, layer in _members(module):
        key = f'{name}.weight'
        if key in state and state[key].shape != layer.kernel_shape:
            error_msgs.append(
                f'size mismatch for {prefix}{key}: '
                f'{tuple(state[key].shape)} in the checkpoint, '
                f'{layer.kernel_shape} in the model.'
            )
            del state[key]
        elif key in state and name in ours:
            lost[name] = _start_as_parent(state, name, layer, ours[name])
        elif key in state:
            _say_who_follows(state, name, layer, prefix, module)
    if lost:
        log_loss(lost)


def _start_as_parent(
    state: State, name: str, child: KernelDNALayer, parent: str
) -> float:
    """An adapter in the place of a child's kernel; what that had beyond."""
    kernel = state.pop(f'{name}.weight')
    here = child.family.parent
    shared = state.get(f'{parent}.weight')
    if shared is None and here is not None:
        shared = here.own_kernel().detach()
    assert child.adapter is not None
    own = child.adapter.state_dict()
    if any(value.is_meta for value in own.values()):
        settings = child.kernel_dna
        start = Adapter(
            child.adapter.routing.squeeze.shape[1],
            child.kernel_shape,
            settings.reduction,  # type: ignore[union-attr, arg-type]
            settings.norm,  # type: ignore[union-attr, arg-type]
            settings.gate,  # type: ignore[union-attr, arg-type]
        )
        own = start.to_empty(device=kernel.device).state_dict()
        start.reset_parameters()
    opens = child.adapter.routing.identity_gate
    for key, value in own.items():
        part = key.removeprefix('routing.')
        at_zero = 'static' in key or opens and part in ('excite', 'bias')
        entry = value.new_zeros(value.shape) if at_zero else value.clone()
        if entry.is_floating_point():
            entry = entry.to(kernel)
        state.setdefault(f'{name}.adapter.{key}', entry)
    return distance(kernel, shared)


def distance(kernel: Tensor, shared: Tensor | None) -> float:
    """How much of a kernel another one leaves, relative; 0 for none."""
    if shared is None or kernel.is_meta or shared.is_meta:
        return 1.0
    kernel = kernel.detach().float()
    norm = kernel.norm().clamp_min(1e-30)
    return float((kernel - shared.detach().to(kernel)).norm() / norm)


def log_loss(lost: dict[str, float]) -> None:
    """Say what the children lose of kernels of their own."""
    errors = [error for error in lost.values() if error > 1e-6]
    if not errors:
        return
    mean = sum(errors) / len(errors)
    print_log(
        f'KernelDNA: {len(lost)} children start with the kernel of their '
        f'parent. Of their own kernels, {mean:.2f} is lost on average '
        f'({min(errors):.2f} to {max(errors):.2f}, relative), and the network '
        'behind has to learn again: train it.',
        'current',
        logging.WARNING,
    )


def _say_who_follows(
    state: State,
    name: str,
    parent: KernelDNALayer,
    prefix: str,
    module: nn.Module,
) -> None:
    """A parent's kernel alone changes its children, too: say so."""
    names: dict[Any, list[str]] = {}
    for alias, layer in _members(module):
        names.setdefault(layer, []).append(alias)
    left = [
        child
        for child in parent.family.children
        if not any(
            key.startswith(f'{alias}.')
            for alias in names.get(child, ())
            for key in state
        )
    ]
    if left:
        _warn(
            f'{prefix}{name}.weight loads, and so changes the kernel of '
            f'{len(left)} children that this checkpoint has nothing of',
            [names[c][0] for c in left if c in names],
        )


def _warn(what: str, names: list[str]) -> None:
    which = ': ' + ', '.join(names[:3]) if names else ''
    more = f' and {len(names) - 3} more' if len(names) > 3 else ''
    print_log(f'KernelDNA: {what}{which}{more}', 'current', logging.WARNING)


def _unshare(
    module: nn.Module,
    state: State,
    ours: dict[str, str],
    theirs: dict[str, str] | None,
) -> None:
    """Give children of a checkpoint that are other ones here their kernels.

    Where the checkpoint does not say its families, they are those of the
    model only if no child stands in another role.
    """
    found = [k.removesuffix(CHILD) for k in state if k.endswith(CHILD)]
    layers = dict(module.named_modules(remove_duplicate=False))
    other = [
        name
        for name in found
        if name in layers
        and (name not in ours or theirs and theirs.get(name) != ours[name])
    ]
    plain = [name for name in ours if f'{name}.weight' in state]
    if theirs is None and found and (other or plain):
        raise BadInput(
            _side_by_side([*other, *plain], dict.fromkeys(found, ''), ours)
        )
    refused, kernels = [], {}
    for name in other:
        assert theirs is not None
        parent = f'{theirs.get(name)}.weight'
        kept = name in ours or _is_open(layers[name], state, name)
        if kept and parent in state:
            spatial = state.get(f'{name}.adapter.static.spatial')
            kernels[name] = modulate(
                state[parent], state[f'{name}{CHILD}'], spatial
            )
        else:
            refused.append(name)
    if refused:
        raise BadInput(_side_by_side(refused, theirs or {}, ours))
    for name, kernel in kernels.items():
        gone = '.adapter.static.' if name in ours else '.adapter.'
        for key in [key for key in state if key.startswith(name + gone)]:
            del state[key]
        state[f'{name}.weight'] = kernel


def _is_open(layer: nn.Module, state: State, name: str) -> bool:
    """Whether a gate of the checkpoint is exactly 1 for every input."""
    settings = getattr(layer, 'kernel_dna', None)
    routing = f'{name}.adapter.routing.'
    return getattr(settings, 'gate', None) == 'identity' and not any(
        state[routing + key].any()
        for key in ('excite', 'bias', 'excite_bias')
        if routing + key in state
    )


def _side_by_side(
    refused: list[str], theirs: dict[str, str], ours: dict[str, str]
) -> str:
    def role(plan: dict[str, str], name: str) -> str:
        if name in plan:
            return f'child of {plan[name]}'.removesuffix(' of ')
        return 'parent' if name in plan.values() else 'plain'

    rows = [('layer', 'in the checkpoint', 'in this model')]
    for name in dict.fromkeys([*refused, *theirs, *ours]):
        rows.append((name, role(theirs, name), role(ours, name)))
    sizes = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = '\n'.join(
        '  '.join(cell.ljust(n) for cell, n in zip(row, sizes, strict=True))
        for row in rows
    )
    return (
        'the checkpoint has other families than this model, and what it '
        f'learned for {", ".join(dict.fromkeys(refused))} has no place in it. '
        "Build the model with the checkpoint's conv_cfg (families=[[...]] "
        f'lists them), or train again from plain weights.\n{table}'
    )


class _Part(MutableMapping[str, Tensor]):
    """A state dict seen from one module: names without the prefix."""

    def __init__(self, state_dict: State, prefix: str):
        self.state_dict = state_dict
        self.prefix = prefix

    def __getitem__(self, key: str) -> Tensor:
        return self.state_dict[self.prefix + key]

    def __setitem__(self, key: str, value: Tensor) -> None:
        self.state_dict[self.prefix + key] = value

    def __delitem__(self, key: str) -> None:
        del self.state_dict[self.prefix + key]

    def __iter__(self) -> Iterator[str]:
        return (
            key.removeprefix(self.prefix)
            for key in list(self.state_dict)
            if key.startswith(self.prefix)
        )

    def __len__(self) -> int:
        return sum(1 for _ in self)
