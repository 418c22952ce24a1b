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

import copy
import logging
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from ..errors import BadInput
from ..families.sites import walk
from ..layers import KernelDNALayer, StaticModulation

PLAN = 'kernel_dna_families'
"""Where a state dict's metadata has the parent of each child."""
STATIC, ROUTING = 'adapter.static.', 'adapter.routing.'
CHILD = f'{STATIC}filter'
FADED = ('.residual', '.fade')
State = MutableMapping[str, Tensor]


class _Load(threading.local):
    """The load under way in this thread, known by its list of errors."""

    errors: list[str] | None = None
    root: Callable[[], nn.Module | None] = staticmethod(lambda: None)


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
    if _is_translated(module, error_msgs):
        return
    state = _Part(state_dict, prefix)
    _drop_residuals(state)
    layers: dict[str, Any] = dict(module.named_modules(remove_duplicate=False))
    ours = plan(module)
    source = _Source(state, _parents(state, local_metadata, ours, layers))
    for name, member in _members(module).items():
        _check_shape(state, prefix, name, member, error_msgs)
    new: dict[str, dict[str, Tensor]] = {}
    lost, refused = {}, []
    for name, layer in layers.items():
        there, here = source.parents.get(name), ours.get(name)
        if there == here or not source.has(name):
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
            shared = source.kernel(here)
            if shared is None and layer.family.parent is not None:
                shared = layer.family.parent.own_kernel()
            start = _derive(shared, _below(new[name], STATIC))
            lost[name] = distance(kernel, start)
    if refused:
        raise BadInput(_side_by_side(refused, source.parents, ours))
    for name, entries in new.items():
        for key in [*_below(state, _key(name, 'adapter.'))]:
            del state[_key(name, f'adapter.{key}')]
        state.pop(_key(name, 'weight'), None)
        state.update({_key(name, k): value for k, value in entries.items()})
    log_loss(lost)
    _say_who_follows(state, prefix, module)


def _is_translated(module: nn.Module, errors: list[str]) -> bool:
    """Whether a module around this one has translated this load."""
    root = _load.root() if _load.errors is errors else None
    inside = () if root is None else root.modules()
    if root is not module and any(module is other for other in inside):
        return True
    _load.errors, _load.root = errors, weakref.ref(module)
    return False


def _drop_residuals(state: State) -> None:
    faded = [key for key in state if key.endswith(FADED)]
    for key in faded:
        del state[key]
    if faded:
        _warn('residuals of an earlier version are dropped', faded)


def _parents(
    state: State,
    metadata: Mapping[str, Any],
    ours: dict[str, str],
    layers: Mapping[str, nn.Module],
) -> dict[str, str]:
    """The parent of each child of a checkpoint.

    Where it does not say them, they are the model's, if no layer stands in
    another role.

    Raises:
        BadInput: If one does.
    """
    found = [
        key.removesuffix(CHILD).removesuffix('.')
        for key in state
        if key.endswith(CHILD)
    ]
    theirs = metadata.get(PLAN)
    if theirs is not None:
        return {name: theirs.get(name, '') for name in found}
    other = [name for name in found if name in layers and name not in ours]
    plain = [name for name in ours if _key(name, 'weight') in state]
    if found and (other or plain):
        raise BadInput(
            _side_by_side([*other, *plain], dict.fromkeys(found, ''), ours)
        )
    return {name: ours.get(name, '') for name in found}


def _check_shape(
    state: State,
    prefix: str,
    name: str,
    member: KernelDNALayer,
    errors: list[str],
) -> None:
    """Name a kernel of another shape, as torch does for what it loads."""
    key = _key(name, 'weight')
    if key in state and state[key].shape != member.kernel_shape:
        errors.append(
            f'size mismatch for {prefix}{key}: {tuple(state[key].shape)} in '
            f'the checkpoint, {member.kernel_shape} in the model.'
        )
        del state[key]


class _Source:
    """What the layers of a checkpoint are.

    Args:
        state: The checkpoint.
        parents: The parent of each of its children.
    """

    def __init__(self, state: State, parents: dict[str, str]):
        self.state = state
        self.parents = parents

    def has(self, name: str) -> bool:
        return name in self.parents or _key(name, 'weight') in self.state

    def kernel(self, name: str) -> Tensor | None:
        """That of a layer; None where it is not there."""
        if name not in self.parents:
            return self.state.get(_key(name, 'weight'))
        kernel = self.state.get(f'{self.parents[name]}.weight')
        return _derive(kernel, self.static(name))

    def static(self, name: str) -> dict[str, Tensor]:
        """A child's modulation; empty for a layer of its own kernel."""
        if name not in self.parents:
            return {}
        return _below(self.state, _key(name, STATIC))

    def is_open(self, name: str, layer: nn.Module) -> bool:
        """Whether a child's gate is exactly 1 for every input."""
        settings = getattr(layer, 'kernel_dna', None)
        gate = _below(self.state, _key(name, ROUTING))
        return getattr(settings, 'gate', 'identity') == 'identity' and not any(
            gate[key].any()
            for key in ('excite', 'bias', 'excite_bias')
            if key in gate
        )

    def adapter(
        self, name: str, child: KernelDNALayer, parent: str
    ) -> dict[str, Tensor]:
        """That of a layer which is a child of this parent in the model."""
        kernel = self.kernel(name)
        assert kernel is not None
        entries = _at_start(child, kernel)
        if name in self.parents:
            gate = _below(self.state, _key(name, ROUTING))
            entries = {k: v for k, v in entries.items() if ROUTING not in k}
            entries |= {ROUTING + key: value for key, value in gate.items()}
        own, its = self.static(name), self.static(parent)
        if self.parents.get(name, name) == self.parents.get(parent, parent):
            # Both are one kernel times a modulation, so each the other's.
            for key in own | its:
                own_factor, its_factor = (
                    1 + static.get(key, kernel.new_zeros(1)).float()
                    for static in (own, its)
                )
                ratio = own_factor / its_factor - 1
                ratio = torch.where(ratio.isfinite(), ratio, 0)
                entries[STATIC + key] = ratio.to(kernel)
        return entries


def _at_start(child: KernelDNALayer, kernel: Tensor) -> dict[str, Tensor]:
    """A child's adapter at its start, to be loaded beside this kernel.

    What starts at random stays as it is, the same in all processes of a job.
    """
    own = child.adapter
    assert own is not None
    if own.static.filter.is_meta:
        own = copy.deepcopy(own).to_empty(device=kernel.device)
        own.reset_parameters()
    at_zero = [STATIC]
    if own.routing.identity_gate:
        at_zero += [f'{ROUTING}excite', f'{ROUTING}bias']
    entries = {}
    for key, value in own.state_dict(prefix='adapter.').items():
        entry = value.clone()
        if key.startswith(tuple(at_zero)):
            entry.zero_()
        entries[key] = entry.to(kernel) if entry.is_floating_point() else entry
    return entries


def _key(name: str, rest: str) -> str:
    """A key of a state dict; the module itself has no name."""
    return f'{name}.{rest}' if name else rest


def _below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        key.removeprefix(prefix): state[key]
        for key in state
        if key.startswith(prefix)
    }


def _derive(
    kernel: Tensor | None, static: Mapping[str, Tensor]
) -> Tensor | None:
    """A child's kernel, of its parent's and the entries of its static half."""
    if kernel is None or not static:
        return kernel
    return StaticModulation.derive(kernel, **static)


def distance(kernel: Tensor, other: Tensor | None) -> float:
    """How far another kernel is off one, relative; 1 without another."""
    if other is None or kernel.is_meta or other.is_meta:
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
            f'KernelDNA: {len(errors)} children start with the kernel of '
            f'their parent, which is off their own by {min(errors):.2f} to '
            f'{max(errors):.2f} (relative): what the network behind has '
            'learned fits no longer, train it.',
            'current',
            logging.WARNING,
        )


def _say_who_follows(state: State, prefix: str, module: nn.Module) -> None:
    """A parent's kernel alone changes its children, too: say so."""
    members = _members(module)
    names = {layer: name for name, layer in members.items()}
    loaded = {
        members.get(key.rpartition('adapter.')[0].removesuffix('.'))
        for key in state
    }
    parents = {
        layer: key
        for name, layer in members.items()
        if layer.adapter is None and (key := _key(name, 'weight')) in state
    }
    for parent, key in parents.items():
        left = [c for c in parent.family.children if c not in loaded]
        if left:
            _warn(
                f'{prefix}{key} is loaded, and with it changes the kernel of '
                f'{len(left)} children that this checkpoint has nothing of',
                [names[child] for child in left if child in names],
            )


def _warn(what: str, names: list[str]) -> None:
    which = ': ' + ', '.join(names[:3]) if names else ''
    more = f' and {len(names) - 3} more' if len(names) > 3 else ''
    print_log(f'KernelDNA: {what}{which}{more}', 'current', logging.WARNING)


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
