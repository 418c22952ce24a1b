"""The convolution that a ``conv_cfg=dict(type='KernelDNA')`` builds.

Source: KernelDNA, arXiv 2503.23379, method section.
"""

from typing import Any

from mmengine.model import kaiming_init
from mmengine.registry import MODELS
from torch import Tensor, nn

from .adapter import mean_over
from .base import KernelDNALayer
from .geometry import CONV2D, Geometry, plain_conv
from .policy import Policy


class KernelDNAConv2d(Geometry, KernelDNALayer):
    """A 2-d convolution that is free, a parent or a child of a family.

    Free and parent are ordinary convolutions. A child computes
    ``conv2d(x * g(x), W_p * (1 + s) * (1 + f))`` with its parent's kernel
    ``W_p`` and its own ``adapter`` and ``bias``. It has the attributes that
    mmcv's ``ConvModule`` reads.

    Args:
        *args, **kwargs: As :class:`torch.nn.Conv2d`.
        policy: What the ``conv_cfg`` says; None for the defaults.

    Raises:
        ValueError: If channels, groups, kernel, stride, padding or dilation
            cannot be those of a 2-d convolution.
    """

    def __init__(
        self, *args: Any, policy: Policy | None = None, **kwargs: Any
    ) -> None:
        plain = plain_conv('KernelDNA', *args, **kwargs)
        super().__init__(plain, policy, kwargs.get('device'))
        self.take_geometry(plain)

    def init_weights(self) -> None:
        """As the plain ResNet: Kaiming normal, fan out; adapter at start."""
        if self.adapter is not None:
            self.adapter.init_weights()
        kaiming_init(self, mode='fan_out', nonlinearity='relu')

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``(N, C_in, H, W)`` to ``(N, C_out, H', W')``."""
        if self.adapter is None:
            return self.convolve(x, self.kernel(), self.bias)
        gate = self.adapter.routing(mean_over(x, (2, 3)))
        x, kernel = self.with_gate(x, gate[..., None, None])
        return self.convolve(x, kernel, self.bias)

    def extra_repr(self) -> str:
        return (
            f'{super().extra_repr()}, bias={self.bias is not None}, '
            f'role={self.role!r}'
        )


@MODELS.register_module('KernelDNA', force=True)
def kernel_dna_conv(*args: Any, **kwargs: Any) -> nn.Module:
    """The conv layer type ``KernelDNA`` of mmcv's ``build_conv_layer``.

    A conv that the rule of its ``conv_cfg`` can never share is an ordinary
    :class:`torch.nn.Conv2d`. Either way it carries the policy, as data.

    Args:
        *args, **kwargs: As :class:`torch.nn.Conv2d`, and the ``conv_cfg``'s
            as :class:`Policy`.

    Raises:
        ValueError: If an argument is unknown or out of its range.
    """
    geometry = {k: kwargs.pop(k) for k in CONV2D.parameters if k in kwargs}
    policy = Policy.from_conv_cfg(kwargs)
    shareable = policy.families is not None or not policy.obstacles(
        plain_conv('KernelDNA', *args, **geometry)
    )
    if shareable:
        return KernelDNAConv2d(*args, policy=policy, **geometry)
    conv = nn.Conv2d(*args, **geometry)
    conv.policy = policy  # type: ignore[assignment]
    return conv
