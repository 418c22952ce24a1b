"""Permute the hidden channels of residual blocks, so that kernels of a family
look more alike.

Two layers inside a block may exchange their channels in any order without
changing what the block computes. Which order makes a child most like its
parent is a linear assignment where one side is fixed, and improved in turns
where several layers share the width.
"""

from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..layers import KernelDNAConv2d, KernelDNALinear
from .fit import fit_modulation

ROUNDS = 8
CONVS = (nn.Conv2d, KernelDNAConv2d)
LINEARS = (nn.Linear, KernelDNALinear)


@dataclass(frozen=True)
class Width:
    """A hidden width of a block: channels that may be put in any order.

    Args:
        writers: Layers whose output channels these are; norms among them.
        readers: Layers whose input channels these are.
    """

    writers: tuple[str, ...]
    readers: tuple[str, ...]

    @property
    def layers(self) -> tuple[str, ...]:
        return (*self.writers, *self.readers)


def hidden_widths(model: nn.Module) -> dict[str, list[Width]]:
    """The hidden widths of each block of a kind that is known, by its name.

    Known are the residual blocks of ResNet in mmdet, mmsegmentation,
    mmpretrain and torchvision, with batch norm and ungrouped convolutions,
    and the ConvNeXt blocks of mmpretrain and torchvision.
    """
    found = {}
    for name, block in model.named_modules():
        describe = BLOCKS.get(
            f'{type(block).__module__}.{type(block).__name__}'
        )
        widths = describe(block) if describe else []
        if widths:
            dot = f'{name}.' if name else ''
            found[name] = [
                Width(
                    tuple(dot + layer for layer in width.writers),
                    tuple(dot + layer for layer in width.readers),
                )
                for width in widths
            ]
    return found


def _resnet_widths(block: nn.Module) -> list[Width]:
    """conv1 -> bn1 -> conv2, and bn2 -> conv3 where there is one."""
    if getattr(block, 'with_plugins', False):
        return []
    widths = []
    for i in (1, 2):
        first, norm, then = (
            getattr(block, name, None)
            for name in (f'conv{i}', f'bn{i}', f'conv{i + 1}')
        )
        if (
            isinstance(norm, _BatchNorm)
            and type(first) in CONVS
            and type(then) in CONVS
            and getattr(first, 'groups', 0) == getattr(then, 'groups', 0) == 1
        ):
            widths.append(Width((f'conv{i}', f'bn{i}'), (f'conv{i + 1}',)))
    return widths


def _convnext_widths(first: str, then: str) -> Callable:
    def describe(block: nn.Module) -> list[Width]:
        layers = block.get_submodule(first), block.get_submodule(then)
        plain = getattr(block, 'grn', None) is None and all(
            type(layer) in CONVS + LINEARS for layer in layers
        )
        return [Width((first,), (then,))] if plain else []

    return describe


BLOCKS: dict[str, Callable[[nn.Module], list[Width]]] = {
    f'{package}.{block}': _resnet_widths
    for package in (
        'mmdet.models.backbones.resnet',
        'mmseg.models.backbones.resnet',
        'mmpretrain.models.backbones.resnet',
        'torchvision.models.resnet',
    )
    for block in ('BasicBlock', 'Bottleneck')
} | {
    'mmpretrain.models.backbones.convnext.ConvNeXtBlock': _convnext_widths(
        'pointwise_conv1', 'pointwise_conv2'
    ),
    'torchvision.models.convnext.CNBlock': _convnext_widths(
        'block.3', 'block.5'
    ),
}


def align(
    state: MutableMapping[str, Tensor],
    pairs: Sequence[tuple[str, str]],
    widths: Sequence[Width],
) -> None:
    """Order hidden channels so that children fit their parents better.

    Each width is tried in turn, a permutation is kept where the fit of the
    pairs gets better, until none does.

    Args:
        state: Plain weights, every entry of the layers of ``widths``;
            changed in place, to what computes the same.
        pairs: Names of a child and its parent.
        widths: What may be permuted.
    """
    kernels = {
        name: state[f'{name}.weight'].detach().float()
        for pair in pairs
        for name in pair
    }
    orders: dict[Width, Tensor] = {}
    errors = {pair: _error(kernels, pair) for pair in pairs}
    for _ in range(ROUNDS):
        improved = False
        for width in widths:
            touched = [p for p in pairs if set(width.layers) & set(p)]
            if not touched:
                continue
            order = _best_order(kernels, touched, width)
            tried = {
                name: _permuted(kernel, name, width, order)
                for name, kernel in kernels.items()
            }
            after = {pair: _error(tried, pair) for pair in touched}
            before = sum(errors[pair] for pair in touched)
            if sum(after.values()) < before - 1e-6:
                improved = True
                kernels = tried
                errors.update(after)
                orders[width] = (
                    orders[width][order] if width in orders else order
                )
        if not improved:
            break
    for width, order in orders.items():
        for key in [key for key in state if _layer(key) in width.layers]:
            state[key] = _permuted(state[key], _layer(key), width, order)


def _layer(key: str) -> str:
    return key.rpartition('.')[0]


def _permuted(
    tensor: Tensor, name: str, width: Width, order: Tensor
) -> Tensor:
    """An entry of a layer, its channels of this width in a new order."""
    order = order.to(tensor.device)
    if name in width.readers and tensor.dim() > 1:
        tensor = tensor.index_select(1, order)
    if name in width.writers and tensor.dim() > 0:
        tensor = tensor.index_select(0, order)
    return tensor


def _error(
    kernels: MutableMapping[str, Tensor], pair: tuple[str, str]
) -> float:
    """Energy of the child's kernel that the parent's leaves, relative."""
    child, parent = pair
    return fit_modulation(kernels[child], kernels[parent]).error ** 2


def _best_order(
    kernels: MutableMapping[str, Tensor],
    pairs: Sequence[tuple[str, str]],
    width: Width,
) -> Tensor:
    """The order of a width that its pairs' other sides ask for.

    Exact where only one kernel of a pair has this width on one side; else a
    step towards it, which :func:`align` keeps only if it helps.
    """
    from scipy.optimize import linear_sum_assignment

    score: Tensor | float = 0.0
    for child, parent in pairs:
        w, p = kernels[child], kernels[parent]
        fit = fit_modulation(w, p)
        fitted = fit.kernel(p)
        norm = w.square().sum()
        if child in width.writers:
            score = score + _energy(w, p, fit.spatial) / norm
        if parent in width.writers:
            score = score + _energy(w, p, fit.spatial).T / norm
        if child in width.readers:
            score = score + 2 * _inner(fitted, w) / norm
        if parent in width.readers:
            score = score + 2 * _inner(w, fitted) / norm
    assert isinstance(score, Tensor)
    _, order = linear_sum_assignment(score.cpu().numpy(), maximize=True)
    return torch.as_tensor(order)


def _energy(w: Tensor, p: Tensor, spatial: Tensor | None) -> Tensor:
    """``[a, b]``: what filter a of the parent explains of the child's b."""
    if spatial is not None:
        p = p * (1 + spatial)
    p = p.flatten(1)
    p = p / p.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return (p @ w.flatten(1).T) ** 2


def _inner(fixed: Tensor, moved: Tensor) -> Tensor:
    """``[a, b]``: the product of input channel a of one, b of the other."""
    fixed, moved = (t.transpose(0, 1).flatten(1) for t in (fixed, moved))
    return fixed @ moved.T
