"""CondConv and DyConv: a kernel mixed from a few, for each image."""

from typing import Any

import torch
from torch import Tensor, nn

from .base import DynamicConv2d, Squeeze, excite, init_experts, register


class Experts(DynamicConv2d):
    """``W(x) = sum_i a_i(x) W_i``.

    Args:
        *args, **kwargs: As :class:`torch.nn.Conv2d`.
        experts: How many kernels W_i, and biases, it has.
    """

    def __init__(self, *args: Any, experts: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.check_count('experts', experts)
        self.experts = experts
        self.weight = nn.Parameter(torch.empty(experts, *self.kernel_shape))
        if self.bias is not None:
            self.bias = nn.Parameter(torch.zeros(experts, self.out_channels))
        self.init_weights()

    def init_weights(self) -> None:
        """Each kernel as in the plain ResNet."""
        init_experts(self.weight, self.bias)

    def attention(self, x: Tensor) -> Tensor:
        """The weights ``(N, experts)`` of the kernels."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``(N, C_in, H, W)`` to ``(N, C_out, H', W')``."""
        attention = self.attention(x)
        kernels = attention @ self.weight.flatten(1)
        biases = None if self.bias is None else attention @ self.bias
        return self.convolve_each(
            x, kernels.view(-1, *self.kernel_shape), biases
        )


@register
class CondConv2d(Experts):
    """Conditionally parameterised convolution, ``a = sigmoid(R mean(x))``.

    Source: arXiv 1904.04971, section 3.

    Args:
        *args, **kwargs: As :class:`torch.nn.Conv2d`.
        experts: Kernels it mixes; the paper's default is 8.
    """

    kind = 'CondConv'

    def __init__(self, *args: Any, experts: int = 8, **kwargs: Any) -> None:
        super().__init__(*args, experts=experts, **kwargs)
        self.routing = nn.Linear(self.in_channels, experts)

    def attention(self, x: Tensor) -> Tensor:
        weights: Tensor = self.routing(x.mean((2, 3)))
        return weights.sigmoid()


@register
class DyConv2d(Experts):
    """Dynamic convolution, ``a = softmax(z(x) / T)``.

    z is squeeze and excite: mean, linear, ReLU, linear. The paper trains with
    the temperature T at 30, down to 1 in the first 10 epochs: add
    ``dict(type='TemperatureHook')`` to the ``custom_hooks``.

    Source: arXiv 1912.03458, section 3.

    Args:
        *args, **kwargs: As :class:`torch.nn.Conv2d`.
        experts: Kernels it mixes; the paper's default is 4.
        reduction: The squeeze is ``C_in / reduction`` wide.
        norm: Norm after the squeeze; the paper has none.
    """

    kind = 'DyConv'
    in_shortcuts = True
    temperatures = (30.0, 1.0)

    def __init__(
        self,
        *args: Any,
        experts: int = 4,
        reduction: int = 4,
        norm: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, experts=experts, **kwargs)
        self.check_attention(reduction, norm)
        hidden = max(self.in_channels // reduction, 1)
        self.squeeze = Squeeze(self.in_channels, hidden, norm)
        self.excite = excite(hidden, experts)

    def attention(self, x: Tensor) -> Tensor:
        weights: Tensor = self.excite(self.squeeze(x)) / self.temperature
        return weights.softmax(1)
