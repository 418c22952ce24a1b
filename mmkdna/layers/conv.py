"""The convolution that a ``conv_cfg=dict(type='KernelDNA')`` builds.

Source: KernelDNA, arXiv 2503.23379, method section.
"""

import inspect
from typing import Any

import torch.nn.functional as F
from mmengine.model import kaiming_init
from mmengine.registry import MODELS
from torch import Tensor, nn

from .adapter import mean_over, scale
from .base import KernelDNALayer
from .policy import Policy, is_int

_CONV2D = inspect.signature(nn.Conv2d)


class KernelDNAConv2d(KernelDNALayer):
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
        plain = _plain_conv(*args, **kwargs)
        super().__init__(plain, policy, kwargs.get('device'))
        self.in_channels = plain.in_channels
        self.out_channels = plain.out_channels
        self.kernel_size = plain.kernel_size  # type: ignore[assignment]
        self.stride = plain.stride
        self.padding = plain.padding
        self.dilation = plain.dilation
        self.groups = plain.groups
        self.padding_mode = plain.padding_mode
        self._border: list[int] = plain._reversed_padding_repeated_twice
        # mmcv's ConvModule reads these two.
        self.transposed = False
        self.output_padding = plain.output_padding

    def init_weights(self) -> None:
        """As the plain ResNet: Kaiming normal, fan out; adapter at start."""
        if self.adapter is not None:
            self.adapter.init_weights()
        kaiming_init(self, mode='fan_out', nonlinearity='relu')

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``(N, C_in, H, W)`` to ``(N, C_out, H', W')``."""
        if self.adapter is not None:
            gate = self.adapter.routing(mean_over(x, (2, 3)))
            x = scale(x, gate[..., None, None])
        padding = self.padding
        if self.padding_mode != 'zeros':
            x = F.pad(x, self._border, mode=self.padding_mode)
            padding = (0, 0)
        return F.conv2d(
            x,
            self.kernel(),
            self.bias,
            self.stride,
            padding,
            self.dilation,
            self.groups,
        )

    def extra_repr(self) -> str:
        return (
            f'{self.in_channels}, {self.out_channels}, '
            f'kernel_size={self.kernel_size}, stride={self.stride}, '
            f'padding={self.padding}, dilation={self.dilation}, '
            f'groups={self.groups}, bias={self.bias is not None}, '
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
    geometry = {k: kwargs.pop(k) for k in _CONV2D.parameters if k in kwargs}
    policy = Policy.from_conv_cfg(kwargs)
    shareable = policy.families is not None or not policy.obstacles(
        _plain_conv(*args, **geometry)
    )
    if shareable:
        return KernelDNAConv2d(*args, policy=policy, **geometry)
    conv = nn.Conv2d(*args, **geometry)
    conv.policy = policy  # type: ignore[assignment]
    return conv


def _plain_conv(*args: Any, **kwargs: Any) -> nn.Conv2d:
    """The plain conv, without storage: it settles what the arguments mean."""
    bound = _CONV2D.bind(*args, **kwargs)
    bound.apply_defaults()
    given = bound.arguments
    layer = (
        f'KernelDNA conv {given["in_channels"]} -> '
        f'{given["out_channels"]}, kernel_size={given["kernel_size"]}: '
    )

    def check(name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise ValueError(
                f'{layer}{name}={given[name]!r}: expected {expected}'
            )

    for name in ('in_channels', 'out_channels', 'groups'):
        check(name, is_int(given[name], 1), 'an int of at least 1')
    for name in ('in_channels', 'out_channels'):
        check(
            'groups',
            given[name] % given['groups'] == 0,
            f'a divisor of {name}={given[name]}',
        )
    for name, least in (
        ('kernel_size', 1),
        ('stride', 1),
        ('padding', 0),
        ('dilation', 1),
    ):
        value = given[name]
        pair = value if isinstance(value, (tuple, list)) else (value, value)
        holds = len(pair) == 2 and all(is_int(v, least) for v in pair)
        if name == 'padding':
            holds = holds or value in ('same', 'valid')
        check(
            name,
            holds,
            f'an int of at least {least} or two of them: '
            'KernelDNA shares the kernels of 2-d convolutions',
        )
    return nn.Conv2d(**{**given, 'device': 'meta'})
