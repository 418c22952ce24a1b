"""A child's convolution, which costs no memory in training.

With plain autograd, ``conv2d(x * g, W_p * (1 + f) * (1 + s))`` saves the gated
input and the derived kernel for the backward, beside the input, which the
layer before saves anyway. A head on five pyramid levels saves its kernels
five times. :func:`lean` saves neither.
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
    """``linear`` of ``(N, pixels, C_in)``, and its gradients.

    The result is ``(N * pixels, C_out)``. With three axes it would be a view,
    and autograd forbids in-place changes of a view that a function returns.
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
    """Saves the input, the gate, and the sources of the kernel.

    The backward computes their products again. It is differentiable.
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
        # The kernel first: in the other order, the CPU's allocator makes a
        # training step a tenth slower.
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
            kernel.to(grad.dtype),
            [need_x or need_gate, any(need), need_bias],
        )
        of_x = of_gate = None
        if need_gate:
            of_gate = (of_gated * x).sum_to_size(gate.shape)
        if need_x:
            # In place, if no second derivative needs of_gated.
            of_x = of_gated * gate if again else of_gated.mul_(gate)
        of_sources: Any = ()
        if any(need):
            asked = zip(sources, need, strict=True)
            leaves = [source for source, needed in asked if needed]
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
        derive: A pure function that returns the child's kernel.
        x: The input.
        gate: Broadcasts to the shape of x.
        bias: ``(C_out,)`` or None.
        *sources: The parent's kernel and the parameters of the modulation.
    """
    result: Tensor = _Lean.apply(operation, derive, x, gate, bias, *sources)
    return result


def trains_eagerly(*tensors: Any) -> bool:
    """Whether torch runs the operations directly, with a backward to follow.

    False for tracing, export, compiling, ``torch.func``, forward-mode
    derivatives, and tensors of a wrapper's own class.
    """
    return (
        not torch.compiler.is_compiling()
        and torch.is_grad_enabled()
        and all(type(t) in (Tensor, nn.Parameter) for t in tensors)
        and not torch.jit.is_tracing()
        and not torch._C._are_functorch_transforms_active()
        and torch.autograd.forward_ad._current_level < 0
    )
