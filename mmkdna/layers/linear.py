"""A pointwise convolution written as a linear layer over the last axis.

ConvNeXt computes its pointwise convs this way, on channels-last activations.
Source: KernelDNA, arXiv 2503.23379, method section, with k = 1.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .adapter import mean_over
from .base import KernelDNALayer
from .policy import Policy


class KernelDNALinear(KernelDNALayer):
    """A linear layer that is free, a parent or a child of a family.

    A child computes ``linear(x * g(x), W_p * (1 + f))`` with its parent's
    kernel ``W_p``, where the gate g pools over all axes between the first and
    the last.

    Args:
        in_features: C_in.
        out_features: C_out.
        bias: Whether it adds a bias.
        device, dtype: As in :class:`torch.nn.Linear`.
        policy: What the ``conv_cfg`` says; None for the defaults.
    """

    # A policy reads them: this is a 1x1 conv.
    kernel_size = (1, 1)
    stride = (1, 1)
    groups = 1

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        policy: Policy | None = None,
    ) -> None:
        self.in_channels = in_features
        self.out_channels = out_features
        plain = nn.Linear(in_features, out_features, bias, 'meta', dtype)
        super().__init__(plain, policy, device)

    def init_weights(self) -> None:
        """As ConvNeXt: truncated normal of 0.02; adapter at its start."""
        if self.adapter is not None:
            self.adapter.init_weights()
        if self.weight is not None:
            nn.init.trunc_normal_(self.weight, std=0.02)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, ..., C_in)`` to ``(N, ..., C_out)``."""
        if self.adapter is None:
            return F.linear(x, self.kernel(), self.bias)
        pixels = x.flatten(1, -2) if x.dim() > 2 else x[:, None]
        gate = self.adapter.routing(mean_over(pixels, (1,)))
        pixels, kernel = self.with_gate(pixels, gate[:, None])
        return F.linear(pixels.view(x.shape), kernel, self.bias)

    def extra_repr(self) -> str:
        return (
            f'{self.in_channels}, {self.out_channels}, '
            f'bias={self.bias is not None}, role={self.role!r}'
        )
