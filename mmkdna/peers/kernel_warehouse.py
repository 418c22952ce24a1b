"""KernelWarehouse: kernels put together from the cells of a warehouse.

Source: arXiv 2406.07879, sections 3.1 to 3.3, and its public networks.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..errors import check
from ..families.forming import when_built
from ..families.sites import is_stage, walk
from .base import (
    SHORTCUT,
    DynamicConv2d,
    Squeeze,
    excite,
    make_plain,
    register,
)


@register
class KernelWarehouseConv2d(DynamicConv2d):
    """A conv whose kernel is mixed, cell by cell, from a stage's warehouse.

    A kernel is cut into m cells of one shape, 1 x 1 in space. Each is, for
    each image, a mixture of the n cells of the warehouse that the convs of a
    stage share, with the attention ``(1 - t) z / sum |z| + t b``: b points
    each cell to one of the warehouse, and the temperature t falls from 1 to 0
    in the first 10 epochs (``dict(type='TemperatureHook')``).

    A new layer is a plain convolution. Warehouses form when the model is
    complete, see :func:`form_warehouses`; with ``budget=1`` out of the plain
    kernels, so that at t = 1 the network computes what it did.

    Args:
        *args, **kwargs: As :class:`torch.nn.Conv2d`.
        budget: Cells in a warehouse for each cell of the convs that share it;
            the paper's "1x", "1/2x", "4x".
        reduction: The squeeze is ``C_in / reduction`` wide, 16 at least.
        norm: Norm of the squeeze. The paper's ``'BN'`` needs two images a
            step; ``'LN'`` does not.
    """

    kind = 'KernelWarehouse'
    in_shortcuts = True
    temperatures = (1.0, 0.0)
    assignment: Tensor
    squeeze: Squeeze
    excite: nn.Linear

    def __init__(
        self,
        *args: Any,
        budget: float = 1,
        reduction: int = 16,
        norm: str | None = 'BN',
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        holds = type(budget) in (int, float) and budget > 0
        check(f'{self.what}budget', budget, holds, 'a number above 0')
        self.check_attention(reduction, norm)
        self.budget, self.reduction, self.norm = budget, reduction, norm
        self.weight: nn.Parameter | None = nn.Parameter(
            torch.empty(self.kernel_shape)
        )
        self.cells: nn.Parameter | None = None
        self._owner: tuple[KernelWarehouseConv2d, ...] = ()
        self.init_weights()

    def init_weights(self) -> None:
        """The plain kernel, or the cells, as in the plain ResNet."""
        for kernel in (self.weight, self.cells):
            if kernel is not None:
                nn.init.kaiming_normal_(kernel, mode='fan_out')
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @property
    def owner(self) -> 'KernelWarehouseConv2d | None':
        """The layer that holds the warehouse; None before it has formed."""
        return self._owner[0] if self._owner else None

    def cut(self, out_channels: int, in_channels: int) -> Tensor:
        """The plain kernel as cells ``(m, out_channels, in_channels)``."""
        assert self.weight is not None
        cells = self.weight.detach().flatten(2)
        cells = cells.unflatten(1, (-1, in_channels))
        cells = cells.unflatten(0, (-1, out_channels))
        return cells.permute(4, 0, 2, 1, 3).flatten(0, 2)

    def join(
        self, owner: 'KernelWarehouseConv2d', assignment: Tensor, cells: int
    ) -> None:
        """Give up the kernel for mixtures of a warehouse's cells.

        Args:
            owner: The layer that holds the ``cells``.
            assignment: ``(m,)``, the cell that each of the kernel's starts
                as; the number of cells stands for none.
            cells: How many the warehouse has.
        """
        like = self.weight
        assert like is not None
        hidden = max(self.in_channels // self.reduction, 16)
        self.squeeze = Squeeze(self.in_channels, hidden, self.norm)
        # One more than there are: the share of nothing.
        self.excite = excite(hidden, len(assignment) * (cells + 1))
        for part in (self.squeeze, self.excite):
            part.to(like).train(self.training)
            part.requires_grad_(like.requires_grad)
        self.register_buffer('assignment', assignment.to(like.device), False)
        # In a tuple, so that nn.Module does not register it here as well.
        self._owner = (owner,)
        self.weight = None

    def attention(self, x: Tensor) -> Tensor:
        """``(N, m, n)``: the mixture that each cell of the kernel is."""
        z = self.excite(self.squeeze(x))
        z = z.view(x.shape[0], len(self.assignment), -1)
        z = z / (z.abs().sum(-1, keepdim=True) + 1e-3)
        start = nn.functional.one_hot(self.assignment, z.shape[-1])
        mixed = torch.lerp(z, start.to(z), self.temperature.to(z))
        return mixed[..., :-1]

    def kernels(self, x: Tensor) -> Tensor:
        """``(N, C_out, C_in / groups, kh, kw)``, for each image."""
        cells = self._owner[0].cells
        assert cells is not None
        mixed = self.attention(x) @ cells.flatten(1)
        cout, cin, *size = self.kernel_shape
        _, out_channels, in_channels = cells.shape
        mixed = mixed.view(
            x.shape[0],
            size[0] * size[1],
            cout // out_channels,
            cin // in_channels,
            out_channels,
            in_channels,
        )
        mixed = mixed.permute(0, 2, 4, 3, 5, 1)
        return mixed.reshape(x.shape[0], *self.kernel_shape)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``(N, C_in, H, W)`` to ``(N, C_out, H', W')``."""
        if self.weight is not None:
            return self.convolve(x, self.weight, self.bias)
        return self.add_bias(self.convolve_each(x, self.kernels(x)))


class _Place(NamedTuple):
    """A conv and where it is."""

    name: str
    conv: KernelWarehouseConv2d
    stage: str
    """The innermost sequence with two or more such convs, or itself."""
    reads_stage_before: bool


def form_warehouses(model: nn.Module) -> None:
    """Give the KernelWarehouse convs of each stage one warehouse.

    The first conv of a stage and the shortcut read what the stage before
    wrote, and belong to that stage's warehouse. The first stage has none
    before it: there they stay plain where they are 1 x 1.

    Args:
        model: Changed in place; a second time changes nothing.
    """
    if not any(isinstance(m, KernelWarehouseConv2d) for m in model.modules()):
        return
    places = list(_places(model))
    stages = list(dict.fromkeys(place.stage for place in places))
    members: dict[tuple, list[KernelWarehouseConv2d]] = {}
    for name, conv, stage, reads_stage_before in places:
        if reads_stage_before:
            before = stages[max(stages.index(stage) - 1, 0)]
            # Of the same network, if there is one.
            same = before.rpartition('.')[0] == stage.rpartition('.')[0]
            if same and before != stage:
                stage = before
            elif max(conv.kernel_size) == 1:
                make_plain(model, name)
                continue
        settings = conv.budget, conv.reduction, conv.norm
        members.setdefault((stage, settings), []).append(conv)
    for convs in members.values():
        _share(convs)


def _places(model: nn.Module) -> Iterator[_Place]:
    found = [
        (name, module, around)
        for name, module, around in walk(model)
        if isinstance(module, KernelWarehouseConv2d) and module.owner is None
    ]
    held: dict[str, int] = {}
    for _, _, around in found:
        for outer, _ in around:
            held[outer] = held.get(outer, 0) + 1
    begun: set[str] = set()
    for name, conv, around in found:
        stages = (o for o in around if is_stage(o[1]) and held[o[0]] > 1)
        stage, module = next(stages, (name, None))
        reads_stage_before = False
        if module is not None:
            prefix = f'{stage}.' if stage else ''
            block, *inside = name.removeprefix(prefix).split('.')
            reads_stage_before = (
                block == next(iter(module._modules))
                and held.get(prefix + block, 0) > 1
                and (stage not in begun or SHORTCUT in inside)
            )
            begun.add(stage)
        yield _Place(name, conv, stage, reads_stage_before)


def _share(convs: list[KernelWarehouseConv2d]) -> None:
    """Form one warehouse, held by the first of the convs.

    It is frozen with any of them: what a frozen stage computes stays.
    """
    owner, budget = convs[0], convs[0].budget
    shapes = zip(*(conv.kernel_shape[:2] for conv in convs), strict=True)
    size = [math.gcd(*channels) for channels in shapes]
    cut = [conv.cut(*size) for conv in convs]
    starts, used = [], 0
    for kernel in cut:
        start = _assignment(len(kernel), budget)
        starts.append(torch.where(start < 0, start, start + used))
        used += int((start >= 0).sum()) * max(int(budget), 1)
    cells = torch.cat(cut)
    count = max(int(len(cells) * budget), 1)
    if budget != 1:
        cells = cells.new_empty(count, *cells.shape[1:])
        nn.init.kaiming_normal_(cells, mode='fan_out')
    trained = all(conv.weight.requires_grad for conv in convs)  # type: ignore
    owner.cells = nn.Parameter(cells, requires_grad=trained)
    for conv, start in zip(convs, starts, strict=True):
        none = (start < 0) | (start >= count)
        conv.join(owner, torch.where(none, count, start), count)


def _assignment(cells: int, budget: float) -> Tensor:
    """Which new cell each of a kernel's cells starts as, ``(m,)``.

    Counted from 0 for each kernel; -1 for none: with a budget below 1 only
    some start as a cell, spread over the kernel.
    """
    index = torch.arange(cells)
    if budget >= 1:
        return index * int(budget)
    every = int(1 / budget)
    chosen = index % every == index // every % every
    return torch.where(chosen, chosen.cumsum(0) - 1, -1)


when_built.append(form_warehouses)
