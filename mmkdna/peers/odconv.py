"""ODConv: attention along all four dimensions of a kernel."""

from typing import Any

import torch
from torch import Tensor, nn

from .base import DynamicConv2d, Squeeze, excite, init_experts, register


@register
class ODConv2d(DynamicConv2d):
    """Omni-dimensional dynamic convolution.

    ``y = a_f * conv2d(a_c * x, sum_i a_w,i a_s W_i)`` with attentions for the
    input channels, the filters, the places in a kernel and the kernels; each
    a sigmoid but the last, a softmax, of logits over the temperature T. The
    paper trains with T at 30, down to 1 in the first 10 epochs: add
    ``dict(type='TemperatureHook')`` to the ``custom_hooks``.

    Source: arXiv 2209.07947, section 3.2 (OpenReview DmpCfq6Mg39).

    Args:
        *args, **kwargs: As :class:`torch.nn.Conv2d`.
        experts: Kernels it mixes: 1 (the default here) and 4 are the paper's
            "1x" and "4x".
        reduction: The squeeze is ``C_in / reduction`` wide, 16 at least.
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
        # Of a depthwise conv, filters and channels are the same thing.
        depthwise = self.groups == self.in_channels == self.out_channels
        self.filter = None if depthwise else excite(hidden, self.out_channels)
        places = self.kernel_shape[2] * self.kernel_shape[3]
        self.spatial = None if places == 1 else excite(hidden, places)
        self.expert = None if experts == 1 else excite(hidden, experts)
        self.init_weights()

    def init_weights(self) -> None:
        """Each kernel as in the plain ResNet."""
        init_experts(self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``(N, C_in, H, W)`` to ``(N, C_out, H', W')``."""
        z = self.squeeze(x)
        channel = (self.channel(z) / self.temperature).sigmoid()
        x = x * channel[..., None, None]
        kernels = self.weight[None]
        if self.expert is not None:
            mix = (self.expert(z) / self.temperature).softmax(1)
            kernels = mix @ self.weight.flatten(1)
            kernels = kernels.view(-1, 1, *self.kernel_shape)
        if self.spatial is not None:
            places = (self.spatial(z) / self.temperature).sigmoid()
            kernels = kernels * places.view(
                -1, 1, 1, 1, *self.kernel_shape[2:]
            )
        if kernels.shape[0] == x.shape[0]:
            y = self.convolve_each(x, kernels.squeeze(1))
        else:
            # One pointwise kernel is the same for every image.
            y = self.convolve(x, kernels[0, 0])
        if self.filter is not None:
            filters = (self.filter(z) / self.temperature).sigmoid()
            y = y * filters[..., None, None]
        return self.add_bias(y)
