"""KernelWarehouse: kernels put together from the cells of a warehouse.

Source: arXiv 2406.07879, sections 3.1 to 3.3, and its public networks.
"""

import math
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import check
from ..families.forming import when_built
from ..families.sites import Around, is_stage, walk
from ..layers.wrapped import check_checkpoint
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

    A kernel is cut into m cells of one shape, 1 x 1 in space. For each image,
    each cell is a mixture of the n cells of the warehouse, which the convs of
    a stage share. The attention is ``(1 - t) z / sum |z| + t b``: b assigns
    a warehouse cell to each cell, and the temperature t falls from 1 to 0 in
    the first 10 epochs (``dict(type='TemperatureHook')``).

    A new layer is a plain convolution. :func:`form_warehouses` makes the
    warehouses when a model is built. With ``budget=1`` it cuts them out of
    the plain kernels, so at t = 1 the network still computes the same.

    Args:
        *args, **kwargs: As :class:`torch.nn.Conv2d`.
        budget: Number of warehouse cells over the number of cells in all
            kernels that share it; the paper's "1x", "1/2x", "4x".
        reduction: The squeeze is ``C_in / reduction`` wide, at least 16.
        norm: Norm of the squeeze. The paper's ``'BN'`` needs two images a
            step; ``'LN'`` does not.
    """

    kind = 'KernelWarehouse'
    in_shortcuts = True
    temperatures = (1.0, 0.0)
    cells: nn.Parameter | None
    owner: 'KernelWarehouseConv2d | None' = None
    """The layer that holds the warehouse; None before it has formed."""
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
        self.weight = nn.Parameter(torch.empty(self.kernel_shape))
        self.cells = None
        self.init_weights()

    def init_weights(self) -> None:
        """Initialise the plain kernel, or the cells, like a plain ResNet's."""
        for kernel in (self.weight, self.cells):
            if kernel is not None:
                nn.init.kaiming_normal_(kernel, mode='fan_out')
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def cut(self, out_channels: int, in_channels: int) -> Tensor:
        """Cut the plain kernel into ``(m, out_channels, in_channels)``."""
        cells = self.weight.detach().flatten(2)
        cells = cells.unflatten(1, (-1, in_channels))
        cells = cells.unflatten(0, (-1, out_channels))
        return cells.permute(4, 0, 2, 1, 3).flatten(0, 2)

    def join(
        self, owner: 'KernelWarehouseConv2d', assignment: Tensor, cells: int
    ) -> None:
        """Replace the kernel by mixtures of a warehouse's cells.

        Args:
            owner: The layer that holds the warehouse.
            assignment: ``(m,)``: the warehouse cell with which each cell of
                the kernel starts; ``cells`` stands for none.
            cells: Number of cells in the warehouse.
        """
        like = self.weight
        hidden = max(self.in_channels // self.reduction, 16)
        self.squeeze = Squeeze(self.in_channels, hidden, self.norm)
        # One output more than cells: the weight of an empty cell.
        self.excite = excite(hidden, len(assignment) * (cells + 1))
        for part in (self.squeeze, self.excite):
            part.to(like).train(self.training)
            part.requires_grad_(like.requires_grad)
        self.register_buffer('assignment', assignment.to(like.device), False)
        # Not setattr: nn.Module would register the owner here, too.
        self.__dict__['owner'] = owner
        self.weight = None

    def attention(self, x: Tensor) -> Tensor:
        """The weights ``(N, m, n)`` of warehouse cells in kernel cells."""
        z = self.excite(self.squeeze(x))
        z = z.view(x.shape[0], len(self.assignment), -1)
        z = z / (z.abs().sum(-1, keepdim=True) + 1e-3)
        start = nn.functional.one_hot(self.assignment, z.shape[-1])
        mixed = torch.lerp(z, start.to(z), self.temperature.to(z))
        return mixed[..., :-1]

    def kernels(self, x: Tensor) -> Tensor:
        """One kernel for each image, ``(N, C_out, C_in / groups, kh, kw)``."""
        cells: Any = self.owner.cells  # type: ignore[union-attr]
        if self.training and not torch.is_grad_enabled():
            check_checkpoint(cells)
        mixed = self.attention(x) @ cells.flatten(1)
        cout, cin, high, wide = self.kernel_shape
        _, out, into = cells.shape
        mixed = mixed.view(
            -1, high * wide, cout // out, cin // into, out, into
        )
        mixed = mixed.permute(0, 2, 4, 3, 5, 1)
        return mixed.reshape(-1, *self.kernel_shape)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``(N, C_in, H, W)`` to ``(N, C_out, H', W')``."""
        if self.weight is not None:
            return self.convolve(x, self.weight, self.bias)
        return self.add_bias(self.convolve_each(x, self.kernels(x)))


def form_warehouses(model: nn.Module) -> None:
    """Give the KernelWarehouse convs of each stage one warehouse.

    A stage is the innermost ``nn.Sequential`` or ``nn.ModuleList`` with two
    such convs. Its first conv and its first block's shortcut read the output
    of the stage before, and belong to that stage's warehouse. In the first
    stage, these two stay plain if they are 1 x 1.

    Args:
        model: Changed in place; a second call changes nothing.
    """
    found = [
        (conv, [(name, conv), *around])
        for name, conv, around in walk(model)
        if isinstance(conv, KernelWarehouseConv2d) and conv.owner is None
    ]
    held = Counter(outer for _, path in found for outer, _ in path[1:])
    members: dict[tuple, list[KernelWarehouseConv2d]] = {}
    before: dict[str, str] = {}
    for conv, path in found:
        stage, in_first_block, in_shortcut = _place(path, held)
        is_first = stage not in before
        previous = before.setdefault(stage, next(reversed(before), stage))
        if in_first_block and (is_first or in_shortcut):
            # Only a stage of the same network.
            same = previous.rpartition('.')[0] == stage.rpartition('.')[0]
            if same and previous != stage:
                stage = previous
            elif max(conv.kernel_size) == 1:
                make_plain(model, path[0][0], conv)
                continue
        settings = conv.budget, conv.reduction, conv.norm
        members.setdefault((stage, settings), []).append(conv)
    for convs in members.values():
        _share(convs)


def _place(path: Around, held: Mapping[str, int]) -> tuple[str, bool, bool]:
    """A conv's stage; whether it is in the first block; in a shortcut.

    A single conv is not a block. A conv in no stage is a stage by itself.
    """
    name = path[0][0]
    for (block, inside), (stage, module) in pairwise(path):
        if is_stage(module) and held[stage] > 1:
            is_first = inside is next(module.children())
            below = name.removeprefix(block).split('.')
            return stage, is_first and held[block] > 1, SHORTCUT in below
    return name, False, False


def _share(convs: list[KernelWarehouseConv2d]) -> None:
    """Form one warehouse; the first of the convs holds it.

    If one conv is frozen, the warehouse is, too. With a budget below 1, only
    some cells of a kernel, spread evenly, start as a cell of the warehouse.
    With a budget above 1, some cells of the warehouse start unused.
    """
    owner, budget = convs[0], convs[0].budget
    shapes = zip(*(conv.kernel_shape[:2] for conv in convs), strict=True)
    size = [math.gcd(*channels) for channels in shapes]
    cut = [conv.cut(*size) for conv in convs]
    cells = torch.cat(cut)
    count = max(int(len(cells) * budget), 1)
    if budget != 1:
        cells = cells.new_empty(count, *cells.shape[1:])
        nn.init.kaiming_normal_(cells, mode='fan_out')
    trained = all(conv.weight.requires_grad for conv in convs)
    owner.cells = nn.Parameter(cells, requires_grad=trained)
    index = torch.cat([torch.arange(len(kernel)) for kernel in cut])
    every = max(int(1 / budget), 1)
    chosen = index % every == index // every % every
    starts = (chosen.cumsum(0) - 1) * max(int(budget), 1)
    starts = torch.where(chosen & (starts < count), starts, count)
    parts = starts.split([len(kernel) for kernel in cut])
    for conv, start in zip(convs, parts, strict=True):
        conv.join(owner, start, count)


when_built.append(form_warehouses)
