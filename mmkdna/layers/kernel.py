"""A child's convolution, free in memory while it trains.

Written as ordinary operations, ``conv2d(x * g, W_p * (1 + f) * (1 + s))``
keeps the gated input and the derived kernel for the backward, beside the
input that the layer before keeps anyway. A head that runs on five levels of a
pyramid keeps its kernels five times. :func:`lean` keeps neither.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Convolution(NamedTuple):
    """``conv2d``, and its gradients."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    def __call__(self, x: Tensor, kernel: Tensor, bias: Any) -> Tensor:
        return F.conv2d(x, kernel, bias, *self)

    def backward(
        self, grad: Tensor, x: Tensor, kernel: Tensor, needed: list[bool]
    ) -> tuple[Tensor | None, ...]:
        rest = (*self[:3], False, [0, 0], self.groups, needed)
        gradients: tuple = torch.ops.aten.convolution_backward(
            grad, x, kernel, [len(kernel)], *rest
        )
        return gradients


class Linear(NamedTuple):
    """``linear`` of ``(N, pixels, C_in)``, in rows, and its gradients.

    The result is ``(N * pixels, C_out)``: of three axes, it would be a view,
    and autograd lets nobody change a function's view in place.
    """

    def __call__(self, x: Tensor, kernel: Tensor, bias: Any) -> Tensor:
        return F.linear(x.flatten(0, -2), kernel, bias)

    def backward(
        self, grad: Tensor, x: Tensor, kernel: Tensor, needed: list[bool]
    ) -> tuple[Tensor | None, ...]:
        return (
            (grad @ kernel).view_as(x) if needed[0] else None,
            grad.T @ x.flatten(0, -2) if needed[1] else None,
            grad.sum(0) if needed[2] else None,
        )


class _Lean(torch.autograd.Function):
    """Keeps the input, the gate, and what the kernel is derived of.

    Products of them are formed again in the backward, which can itself be
    differentiated.
    """

    @staticmethod
    def forward(
        ctx: Any,
        operation: Convolution | Linear,
        derive: Callable[..., Tensor],
        x: Tensor,
        gate: Tensor,
        bias: Tensor | None,
        *sources: Tensor,
    ) -> Tensor:
        ctx.operation, ctx.derive = operation, derive
        ctx.save_for_backward(x, gate, *sources)
        # The kernel before the gated input: in the other order the CPU's
        # allocator makes a step a tenth slower.
        kernel = derive(*sources)
        return operation(x * gate, kernel, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, gate, *sources = ctx.saved_tensors
        _, _, need_x, need_gate, need_bias, *need = ctx.needs_input_grad
        again = torch.is_grad_enabled()
        with torch.enable_grad():
            if not again:
                sources = [
                    source.detach().requires_grad_(needed)
                    for source, needed in zip(sources, need, strict=True)
                ]
            kernel = ctx.derive(*sources)
        # Under autocast the convolution is computed in the dtype of grad.
        of_gated, of_kernel, of_bias = ctx.operation.backward(
            grad,
            (x * gate).to(grad.dtype),
            (kernel if again else kernel.detach()).to(grad.dtype),
            [need_x or need_gate, any(need), need_bias],
        )
        of_x = of_gate = None
        if need_gate:
            of_gate = (of_gated * x).sum_to_size(gate.shape)
        if need_x:
            # In its place, where it is needed no longer.
            of_x = of_gated * gate if again else of_gated.mul_(gate)
        of_sources: Any = ()
        if any(need):
            asked = zip(sources, need, strict=True)
            leaves = [source for source, needed in asked if needed]
            of_kernel = of_kernel.to(kernel.dtype)
            of_sources = torch.autograd.grad(
                kernel, leaves, of_kernel, create_graph=again
            )
        found = iter(of_sources)
        of_sources = [next(found) if needed else None for needed in need]
        return (None, None, of_x, of_gate, of_bias, *of_sources)


def lean(
    operation: Convolution | Linear,
    derive: Callable[..., Tensor],
    x: Tensor,
    gate: Tensor,
    bias: Tensor | None,
    *sources: Tensor,
) -> Tensor:
    """``operation(x * gate, derive(*sources), bias)`` for eager training.

    Args:
        derive: A pure function of the sources: the child's kernel.
        x: The input.
        gate: Broadcasts to the shape of x.
        bias: ``(C_out,)`` or None.
        *sources: The parent's kernel, and the modulation.
    """
    result: Tensor = _Lean.apply(operation, derive, x, gate, bias, *sources)
    return result


def trains_eagerly(*tensors: Any) -> bool:
    """Whether a backward will follow, of operations that run as they are.

    Not where they are traced, exported or compiled, transformed by
    ``torch.func`` or differentiated forwards, or where a wrapper has replaced
    the tensors by a kind of its own.
    """
    return (
        not torch.compiler.is_compiling()
        and torch.is_grad_enabled()
        and all(type(t) in (Tensor, nn.Parameter) for t in tensors)
        and not torch.jit.is_tracing()
        and not torch._C._are_functorch_transforms_active()
        and torch.autograd.forward_ad._current_level < 0
    )
