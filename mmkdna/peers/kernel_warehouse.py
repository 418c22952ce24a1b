"""KernelWarehouse: kernels put together from the cells of a warehouse."""

from typing import Any

import torch
from torch import Tensor, nn

from .base import DynamicConv2d, Squeeze, excite, register


@register
class KernelWarehouseConv2d(DynamicConv2d):
    """A conv whose kernel is mixed, cell by cell, from a stage's warehouse.

    A kernel is cut into m cells of one shape, 1 x 1 in space. Each is, for
    each image, a mixture of the n cells of the warehouse that the convs of a
    stage share, with the attention ``(1 - t) z / sum |z| + t b``: b points
    each cell to one of the warehouse, and the temperature t falls from 1 to 0
    in the first 10 epochs (``dict(type='TemperatureHook')``).

    A new layer is an ordinary convolution. Warehouses form when the model is
    complete, see :mod:`mmkdna.peers.warehouses`; with ``budget=1`` out of
    the plain kernels, so that at t = 1 the network computes what it did.

    Source: arXiv 2406.07879, sections 3.1 to 3.3.

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

    def __init__(
        self,
        *args: Any,
        budget: float = 1,
        reduction: int = 16,
        norm: str | None = 'BN',
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.check(
            'budget',
            isinstance(budget, (int, float))
            and not isinstance(budget, bool)
            and budget > 0,
            budget,
            'a number above 0',
        )
        self.check_attention(reduction, norm)
        self.budget, self.reduction, self.norm = budget, reduction, norm
        self.weight: nn.Parameter | None = nn.Parameter(
            torch.empty(self.kernel_shape)
        )
        self.cells: nn.Parameter | None = None
        self._owner: tuple[KernelWarehouseConv2d, ...] = ()
        self.squeeze: Squeeze | None = None
        self.excite: nn.Linear | None = None
        self.init_weights()

    def init_weights(self) -> None:
        """The plain kernel, or the cells, as in the plain ResNet."""
        if self.weight is not None:
            nn.init.kaiming_normal_(self.weight, mode='fan_out')
        elif self.cells is not None:
            nn.init.kaiming_normal_(self.cells, mode='fan_out')
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @property
    def owner(self) -> 'KernelWarehouseConv2d | None':
        """The layer that holds the warehouse; None before it has formed."""
        return self._owner[0] if self._owner else None

    def cut(self, out_channels: int, in_channels: int) -> Tensor:
        """The plain kernel as cells ``(m, out_channels, in_channels)``."""
        assert self.weight is not None
        cout, cin, *size = self.kernel_shape
        cells = self.weight.detach().reshape(
            cout // out_channels,
            out_channels,
            cin // in_channels,
            in_channels,
            size[0] * size[1],
        )
        return cells.permute(4, 0, 2, 1, 3).reshape(
            -1, out_channels, in_channels
        )

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
        assert self.weight is not None
        like = self.weight
        hidden = max(self.in_channels // self.reduction, 16)
        self.squeeze = Squeeze(self.in_channels, hidden, self.norm)
        # One more than there are: the share of nothing.
        self.excite = excite(hidden, len(assignment) * (cells + 1))
        for part in (self.squeeze, self.excite):
            part.to(like).train(self.training)
            part.requires_grad_(like.requires_grad)
        self.register_buffer(
            'assignment', assignment.to(like.device), persistent=False
        )
        # In a tuple, so that nn.Module does not register it here as well.
        self._owner = (owner,)
        self.weight = None

    def attention(self, x: Tensor) -> Tensor:
        """``(N, m, n)``: the mixture that each cell of the kernel is."""
        assert self.squeeze is not None
        assert self.excite is not None
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


def assignments(cells: int, budget: float) -> Tensor:
    """Which new cell each cell of a kernel starts as, for a budget.

    Args:
        cells: m, how many the kernel is cut into.
        budget: As in :class:`KernelWarehouseConv2d`.

    Returns:
        ``(m,)``, counted from 0 for each kernel; -1 for none: with a budget
        below 1 only some start as a cell, spread over the kernel.
    """
    index = torch.arange(cells)
    if budget >= 1:
        return index * int(budget)
    every = int(1 / budget)
    chosen = index % every == index // every % every
    return torch.where(chosen, chosen.cumsum(0) - 1, -1)
