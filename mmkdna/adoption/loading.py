"""Plain weights into a KernelDNA model, wherever weights are loaded.

A model with families has :func:`translate` as a hook before every load of a
state dict: it rewrites, in the state dict that is being loaded, what a plain
network calls ``<child>.weight`` as that child's adapter. So ``init_cfg``,
``load_from`` and ``load_state_dict`` need no flag.
"""

import importlib.util
import logging
from collections.abc import Iterator, MutableMapping, Sequence
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from ..errors import BadInput
from ..families import Family, Member, list_families
from ..families.sites import walk
from ..layers import KernelDNALayer
from .align import align, hidden_widths
from .fit import Fit, fit_modulation

State = MutableMapping[str, Tensor]
PLAN = 'kernel_dna_families'


def watch(model: nn.Module) -> None:
    """Have every module above a KernelDNA layer translate what it loads."""
    above: dict[int, nn.Module] = {}
    for _, layer, around in walk(model):
        if isinstance(layer, KernelDNALayer):
            above.update((id(module), module) for _, module in around)
    for module in above.values():
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
    for key, below in state._metadata.items():
        if key.startswith(prefix):
            below.pop(PLAN, None)
    local_metadata[PLAN] = _plan(module)


def _plan(module: nn.Module) -> dict[str, str]:
    return {
        child.name: family.parent.name
        for family in list_families(module)
        for child in family.children
    }


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
    """Rewrite a plain network's weights as those of the families, in place.

    The arguments are those of a hook before a module loads a state dict.

    Raises:
        BadInput: If the checkpoint has other families, which cannot be
            expressed in those of the model; or a kernel is not finite.
    """
    families = list_families(module)
    if not families and not local_metadata.get(PLAN):
        return
    state = _Part(state_dict, prefix)
    _unshare(module, state, local_metadata.get(PLAN, {}))
    for family in families:
        for name, layer in family.members:
            key = f'{name}.weight'
            if key not in state:
                continue
            if state[key].shape != layer.kernel_shape:
                error_msgs.append(
                    f'size mismatch for {prefix}{key}: '
                    f'{tuple(state[key].shape)} in the checkpoint, '
                    f'{layer.kernel_shape} in the model.'
                )
                del state[key]
            elif not state[key].isfinite().all():
                raise BadInput(
                    f'{prefix}{key} is NaN or infinite in the checkpoint: '
                    'its training diverged, take an earlier one'
                )
    families = [
        Family(family.parent, plain)
        for family in families
        if (
            plain := tuple(
                child
                for child in family.children
                if f'{child.name}.weight' in state
            )
        )
    ]
    if families:
        _adopt(module, state, families)


def _adopt(module: nn.Module, state: State, families: list[Family]) -> None:
    """Write adapters, and residuals, for children whose kernels are given."""
    children = [child for family in families for child in family.children]
    aligned = _align(module, state, families)
    for family in families:
        own = {
            name: state[f'{name}.weight'].float()
            for name, _ in family.children
        }
        # A part of a model may be loaded without the parent.
        parent = state.get(
            f'{family.parent.name}.weight', family.parent.module.weight
        )
        parent = parent.detach().to(next(iter(own.values())))
        for name, child in family.children:
            fit = fit_modulation(own[name], parent)
            _write(state, name, child, fit)
            child.fit_error = fit.error
            if child.keeps_residual:
                state[f'{name}.residual'] = own[name] - fit.kernel(parent)
                state[f'{name}.fade'] = own[name].new_zeros(())
    _log(children, aligned)


def _write(state: State, name: str, child: KernelDNALayer, fit: Fit) -> None:
    """A child's adapter in the place of its kernel."""
    assert child.adapter is not None
    del state[f'{name}.weight']
    state[f'{name}.adapter.static.filter'] = fit.filter
    if fit.spatial is not None:
        state[f'{name}.adapter.static.spatial'] = fit.spatial
    routing = child.adapter.routing
    for key, value in routing.state_dict().items():
        # The squeeze of each process as it is; the gate at its start.
        opens = routing.identity_gate and key.startswith('excite')
        state.setdefault(
            f'{name}.adapter.routing.{key}',
            torch.zeros_like(value) if opens else value,
        )


def _log(children: Sequence[Member], aligned: int) -> None:
    errors = [child.fit_error or 0.0 for _, child in children]
    kept = all(child.keeps_residual for _, child in children)
    print_log(
        f'KernelDNA: plain weights for {len(children)} children, {aligned} '
        'aligned; relative error of the fit '
        f'{sum(errors) / len(errors):.3f} ({min(errors):.3f} to '
        f'{max(errors):.3f}). '
        + (
            'What is left stays, to fade.'
            if kept
            else 'What is left is dropped, and the network behind has to '
            'learn again; to start from the plain network, train with '
            "custom_hooks=[dict(type='KernelFadeHook')]."
        ),
        'current',
        logging.INFO if kept else logging.WARNING,
    )
    gates = {child.policy.gate for _, child in children}
    if kept and gates != {'identity'}:
        print_log(
            "gate='sigmoid' does not start at 1, so the network does not "
            "start as the plain one; gate='identity' does.",
            'current',
            logging.WARNING,
        )


def _align(module: nn.Module, state: State, families: list[Family]) -> int:
    """Align what may be; the number of children that it could reach."""
    pairs = [
        (child.name, family.parent.name)
        for family in families
        for child in family.children
        if child.module.policy.align
        and f'{family.parent.name}.weight' in state
    ]
    if not pairs:
        return 0
    if importlib.util.find_spec('scipy') is None:
        print_log(
            'KernelDNA: not aligned, since scipy is not installed; pip '
            'install scipy, or set align=False',
            'current',
            logging.WARNING,
        )
        return 0
    linked = {
        name
        for name, layer in module.named_modules()
        if getattr(layer, 'role', 'free') != 'free'
    }
    paired = {name for pair in pairs for name in pair}
    widths = [
        width
        for block in hidden_widths(module).values()
        for width in block
        # Every entry at hand, and no kernel that another family uses.
        if all(f'{layer}.weight' in state for layer in width.layers)
        and linked.intersection(width.layers) <= paired
    ]
    align(state, pairs, widths)
    reached = {layer for width in widths for layer in width.layers}
    return len({child for child, _ in pairs} & reached)


def _unshare(module: nn.Module, state: State, theirs: dict[str, str]) -> None:
    """Give a checkpoint's children that are none here their own kernels.

    Args:
        module: The model or a part of it.
        state: A KernelDNA checkpoint, changed in place.
        theirs: The parent of each of its children, where it is known.
    """
    ours = _plan(module)
    mark = '.adapter.static.filter'
    refused = []
    kernels = {}
    for name in [k.removesuffix(mark) for k in state if k.endswith(mark)]:
        parent = theirs.get(name)
        if name in ours and parent in (None, ours[name]):
            continue
        layer = _submodule(module, name)
        if layer is None:
            continue
        gated = name in ours or _is_open(layer, state, name)
        if gated and f'{parent}.weight' in state:
            kernels[name] = _effective(state, name, f'{parent}.weight')
        else:
            refused.append(name)
    if refused:
        raise BadInput(_side_by_side(refused, theirs, ours))
    for name, kernel in kernels.items():
        gone = f'{name}.adapter.static.' if name in ours else f'{name}.'
        for key in [key for key in state if key.startswith(gone)]:
            if key != f'{name}.bias':
                del state[key]
        for key in (f'{name}.residual', f'{name}.fade'):
            state.pop(key, None)
        state[f'{name}.weight'] = kernel


def _submodule(module: nn.Module, name: str) -> nn.Module | None:
    try:
        return module.get_submodule(name)
    except AttributeError:
        return None


def _is_open(layer: nn.Module, state: State, name: str) -> bool:
    """Whether a gate of the checkpoint is exactly 1 for every input."""
    policy = getattr(layer, 'policy', None)
    excite = f'{name}.adapter.routing.excite'
    return getattr(policy, 'gate', None) == 'identity' and not any(
        state[key].any() for key in (excite, f'{excite}_bias')
    )


def _effective(state: State, name: str, parent: str) -> Tensor:
    """The kernel that a child of a checkpoint uses."""
    static = f'{name}.adapter.static.'
    factor = 1 + state[f'{static}filter'].float()
    if f'{static}spatial' in state:
        factor = factor * (1 + state[f'{static}spatial'].float())
    kernel = state[parent].float() * factor
    if f'{name}.residual' in state:
        left = 1 - state[f'{name}.fade'].float()
        kernel = kernel + left * state[f'{name}.residual'].float()
    return kernel


def _side_by_side(
    refused: Sequence[str], theirs: dict[str, str], ours: dict[str, str]
) -> str:
    def role(plan: dict[str, str], name: str) -> str:
        if name in plan:
            return f'child of {plan[name]}'
        return 'parent' if name in plan.values() else 'ordinary'

    rows = [('layer', 'in the checkpoint', 'in this model')]
    for name in dict.fromkeys([*refused, *theirs, *ours]):
        was = role(theirs, name) if theirs or name not in refused else 'child'
        rows.append((name, was, role(ours, name)))
    sizes = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = '\n'.join(
        '  '.join(cell.ljust(n) for cell, n in zip(row, sizes, strict=True))
        for row in rows
    )
    return (
        'the checkpoint has other families than this model, and the trained '
        f'gates of {", ".join(refused)} have no place in it. Build the model '
        "with the checkpoint's conv_cfg (families=[[...]] lists them), or "
        f'train again from plain weights.\n{table}'
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
