"""The adapter that turns a parent's kernel into a child's.

Source: KernelDNA, arXiv 2503.23379, method section: static modulation of the
kernel and input-dependent channel routing, decoupled.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .cache import runs_eagerly
from .norm import build_norm


class StaticModulation(nn.Module):
    """``W_c = W_p * (1 + s) * (1 + f)``, independent of the input.

    ``spatial`` s is ``(1, 1, kh, kw)`` and None for a 1 x 1 kernel,
    ``filter`` f is ``(C_out, 1, 1, 1)``, ``(C_out, 1)`` for a linear layer;
    both start at zero, so the child starts as its parent.

    Args:
        kernel_shape: ``(C_out, C_in / groups, kh, kw)`` or ``(C_out, C_in)``.
    """

    def __init__(self, kernel_shape: Sequence[int]):
        super().__init__()
        out_channels, _, *kernel_size = kernel_shape
        ones = [1] * len(kernel_size)
        self.filter = nn.Parameter(torch.zeros(out_channels, 1, *ones))
        if max(kernel_size, default=1) > 1:
            self.spatial = nn.Parameter(torch.zeros(1, 1, *kernel_size))
        else:
            self.register_parameter('spatial', None)

    def init_weights(self) -> None:
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def forward(self, kernel: Tensor) -> Tensor:
        """Modulate a kernel of the shape ``kernel_shape``."""
        factor = 1 + self.filter
        if self.spatial is not None:
            # The small factors first: the kernel is read and written once.
            factor = factor * (1 + self.spatial)
        return scale(kernel, factor)


class DynamicRouting(nn.Module):
    """Squeeze-and-excite over a child's input: a gate for each channel.

    Args:
        channels: C_in of the child.
        reduction: The squeeze is ``channels // reduction`` wide.
        norm: ``'LN'``, ``'BN'`` or None. BN normalises over the images of a
            batch, and so needs two or more of them while training.
        gate: ``'identity'``: ``2 * sigmoid``, exactly 1 at the start;
            ``'sigmoid'``: as the authors.

    Raises:
        ValueError: If ``reduction`` leaves no channel.
    """

    def __init__(
        self, channels: int, reduction: int, norm: str | None, gate: str
    ):
        super().__init__()
        squeezed = channels // reduction
        if squeezed < 1:
            raise ValueError(
                f'reduction={reduction}: expected at most the '
                f"conv's {channels} input channels"
            )
        self.identity_gate = gate == 'identity'
        # Parameters, not nn.Linear: an init_cfg for the Linear layers of a
        # model would move the gate from its start.
        self.squeeze = nn.Parameter(torch.empty(squeezed, channels))
        self.excite = nn.Parameter(torch.empty(channels, squeezed))
        self.excite_bias = nn.Parameter(torch.empty(channels))
        self.norm: Any = build_norm(norm, squeezed)
        self._init_linears()

    def init_weights(self) -> None:
        """As nn.Linear; for the identity gate, the excite at zero."""
        self._init_linears()
        if not isinstance(self.norm, nn.Identity):
            self.norm.reset_parameters()

    def _init_linears(self) -> None:
        _as_linear(self.squeeze, self.squeeze.shape[1])
        if self.identity_gate:
            nn.init.zeros_(self.excite)
            nn.init.zeros_(self.excite_bias)
        else:
            for tensor in (self.excite, self.excite_bias):
                _as_linear(tensor, self.excite.shape[1])

    def is_open(self) -> bool:
        """Whether the gate is exactly 1 for every input."""
        return self.identity_gate and not (
            self.excite.any() or self.excite_bias.any()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Gate ``(N, C_in)`` of an input's mean over its pixels, the same."""
        z = self.norm(F.linear(x, self.squeeze)).relu()
        gate = F.linear(z, self.excite, self.excite_bias).sigmoid()
        return 2 * gate if self.identity_gate else gate


def _as_linear(tensor: Tensor, fan_in: int) -> None:
    bound = fan_in**-0.5
    nn.init.uniform_(tensor, -bound, bound)


class _Scale(torch.autograd.Function):
    """``x * factor``, whose backward makes one tensor of x's size, not two."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: Tensor) -> Tensor:
        ctx.save_for_backward(x, factor)
        return x * factor

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, factor = ctx.saved_tensors
        product = grad * x
        grad_factor = product.sum_to_size(factor.shape)
        # The sum needs the product no longer, unless it is differentiated.
        reused = None if torch.is_grad_enabled() else product
        return torch.mul(grad, factor, out=reused), grad_factor


def scale(x: Tensor, factor: Tensor) -> Tensor:
    """``x * factor`` for a factor that broadcasts to the shape of x."""
    return _Scale.apply(x, factor)


class _Gate(torch.autograd.Function):
    """``x * gate``, which keeps its result for the backward, not x.

    The convolution behind it keeps the same tensor.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gate: Tensor, dtype: torch.dtype
    ) -> Tensor:
        y = (x * gate).to(dtype)
        ctx.save_for_backward(y, gate)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        y, gate = ctx.saved_tensors
        product = grad * y
        grad_gate = product.sum_to_size(gate.shape) / gate
        # A gate that is 0 to rounding is shut, and its sigmoid is flat.
        grad_gate = grad_gate.masked_fill(gate == 0, 0)
        reused = None if torch.is_grad_enabled() else product
        return torch.mul(grad, gate, out=reused), grad_gate, None


def gated(x: Tensor, gate: Tensor) -> Tensor:
    """``x * gate``, in the dtype that a convolution computes in.

    Args:
        x: The input of a convolution.
        gate: Positive, and broadcasts to the shape of x.
    """
    if not runs_eagerly():
        # A compiler decides itself what to keep.
        return x * gate
    device = x.device.type
    dtype = torch.result_type(x, gate)
    # As autocast does it, which leaves double precision alone.
    if (
        torch.amp.is_autocast_available(device)
        and torch.is_autocast_enabled(device)
        and dtype != torch.float64
    ):
        dtype = torch.get_autocast_dtype(device)
    return _Gate.apply(x, gate, dtype)


def mean_over(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """The mean over some axes, in the dtype of x.

    The gradient of a sum is a view of its own; that of ``Tensor.mean`` is a
    tensor of the size of x.
    """
    count = math.prod([x.shape[axis] for axis in axes])
    # A sum in half precision could overflow.
    dtype = torch.promote_types(x.dtype, torch.float32)
    return (x.sum(axes, dtype=dtype) / count).to(x.dtype)


class Adapter(nn.Module):
    """Both halves; a child conv computes ``conv2d(x * g(x), W_c)``.

    Args:
        in_channels: C_in of the child.
        kernel_shape: As in :class:`StaticModulation`.
        reduction, norm, gate: As in :class:`DynamicRouting`.
    """

    def __init__(
        self,
        in_channels: int,
        kernel_shape: Sequence[int],
        reduction: int = 4,
        norm: str | None = 'LN',
        gate: str = 'identity',
    ):
        super().__init__()
        self.static = StaticModulation(kernel_shape)
        self.routing = DynamicRouting(in_channels, reduction, norm, gate)

    def init_weights(self) -> None:
        self.static.init_weights()
        self.routing.init_weights()
