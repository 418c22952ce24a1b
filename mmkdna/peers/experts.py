"""CondConv, DyConv and ODConv: each image mixes its kernel from a few."""

from typing import Any

import torch
from torch import Tensor, nn

from .base import DynamicConv2d, Squeeze, excite, register


class Experts(DynamicConv2d):
    """``W(x) = sum_i a_i(x) W_i``, and the bias is mixed as well.

    Args:
        *args, **kwargs: As :class:`torch.nn.Conv2d`.
        experts: Number of kernels W_i, and of biases.
    """

    def __init__(self, *args: Any, experts: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.check_count('experts', experts)
        self.weight = nn.Parameter(torch.empty(experts, *self.kernel_shape))
        if self.bias is not None:
            self.bias = nn.Parameter(torch.zeros(experts, self.out_channels))
        self.init_weights()

    def attention(self, x: Tensor) -> Tensor:
        """The weights of the kernels, ``(N, experts)``."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``(N, C_in, H, W)`` to ``(N, C_out, H', W')``."""
        attention = self.attention(x)
        kernels = attention @ self.weight.flatten(1)
        kernels = kernels.view(-1, *self.kernel_shape)
        biases = None if self.bias is None else attention @ self.bias
        return self.convolve_each(x, kernels, biases)


@register
class CondConv2d(Experts):
    """Conditionally parameterised convolution, ``a = sigmoid(R mean(x))``.

    Source: arXiv 1904.04971, section 3.

    Args:
        *args, **kwargs: As :class:`torch.nn.Conv2d`.
        experts: Number of kernels to mix; the paper's default is 8.
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

    z is squeeze and excite: mean, linear, ReLU, linear. In the paper the
    temperature T falls from 30 to 1 in the first 10 epochs: add
    ``dict(type='TemperatureHook')`` to the ``custom_hooks``.

    Source: arXiv 1912.03458, section 3.

    Args:
        *args, **kwargs: As :class:`torch.nn.Conv2d`.
        experts: Number of kernels to mix; the paper's default is 4.
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


@register
class ODConv2d(DynamicConv2d):
    """Omni-dimensional dynamic convolution.

    ``y = a_f * conv2d(a_c * x, sum_i a_w,i a_s W_i)``, with attentions for
    filters (f), input channels (c), kernels (w) and places in a kernel (s):
    a softmax for w, sigmoids for the others, of logits over the temperature
    T. In the paper T falls from 30 to 1 in the first 10 epochs: add
    ``dict(type='TemperatureHook')`` to the ``custom_hooks``.

    Source: arXiv 2209.07947, section 3.2 (OpenReview DmpCfq6Mg39).

    Args:
        *args, **kwargs: As :class:`torch.nn.Conv2d`.
        experts: Number of kernels to mix: 1 (the default here) and 4 are the
            paper's "1x" and "4x".
        reduction: The squeeze is ``C_in / reduction`` wide, at least 16.
        norm: Norm of the squeeze. The paper's ``'BN'`` needs two images a
            step; ``'LN'`` does not.
    """

    kind = 'ODConv'
    temperatures = (30.0, 1.0)

    def __init__(
        self,
        *args: Any,
        experts: int = 1,
        reduction: int = 16,
        norm: str | None = 'BN',
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.check_count('experts', experts)
        self.check_attention(reduction, norm)
        self.weight = nn.Parameter(torch.empty(experts, *self.kernel_shape))
        hidden = max(self.in_channels // reduction, 16)
        self.squeeze = Squeeze(self.in_channels, hidden, norm)
        self.channel = excite(hidden, self.in_channels)
        # In a depthwise conv, filters and channels are the same.
        depthwise = self.groups == self.in_channels == self.out_channels
        self.filter = None if depthwise else excite(hidden, self.out_channels)
        places = self.kernel_shape[2] * self.kernel_shape[3]
        self.spatial = None if places == 1 else excite(hidden, places)
        self.expert = None if experts == 1 else excite(hidden, experts)
        self.init_weights()

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``(N, C_in, H, W)`` to ``(N, C_out, H', W')``."""
        z = self.squeeze(x)
        channel = (self.channel(z) / self.temperature).sigmoid()
        x = x * channel[..., None, None]
        kernels = self.weight
        if self.expert is not None:
            mix = (self.expert(z) / self.temperature).softmax(1)
            kernels = mix @ self.weight.flatten(1)
            kernels = kernels.view(-1, *self.kernel_shape)
        if self.spatial is not None:
            places = (self.spatial(z) / self.temperature).sigmoid()
            kernels = kernels * places.view(-1, 1, 1, *self.kernel_size)
        if self.expert is None and self.spatial is None:
            y = self.convolve(x, self.weight[0])
        else:
            y = self.convolve_each(x, kernels)
        if self.filter is not None:
            filters = (self.filter(z) / self.temperature).sigmoid()
            y = y * filters[..., None, None]
        return self.add_bias(y)
