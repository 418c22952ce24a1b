"""The geometry of a 2-d convolution: what its arguments mean, applied."""

import inspect
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import is_int

CONV2D = inspect.signature(nn.Conv2d)
"""The arguments of :class:`torch.nn.Conv2d`."""
GEOMETRY = (
    'in_channels',
    'out_channels',
    'kernel_size',
    'stride',
    'padding',
    'dilation',
    'groups',
    'padding_mode',
)
"""Those of them that are attributes of a conv."""


class Geometry:
    """A conv's attributes as mmcv's ``ConvModule`` reads them, and its use.

    A mixin for a module that computes its kernel itself.
    """

    # mmcv's ConvModule reads it.
    transposed = False

    def take_geometry(self, plain: nn.Conv2d) -> None:
        """Be of the channels, kernel size, stride and so on of a conv."""
        self.in_channels = plain.in_channels
        self.out_channels = plain.out_channels
        self.kernel_size: tuple[int, int] = plain.kernel_size  # type: ignore
        self.stride = plain.stride
        self.padding = plain.padding
        self.dilation = plain.dilation
        self.groups = plain.groups
        self.padding_mode = plain.padding_mode
        self.output_padding = plain.output_padding
        self._border: list[int] = plain._reversed_padding_repeated_twice

    def convolve(
        self, x: Tensor, kernel: Tensor, bias: Tensor | None = None
    ) -> Tensor:
        """Convolve ``(N, C_in, H, W)`` with one kernel for all images."""
        return self._convolve(x, kernel, bias, self.groups)

    def convolve_each(
        self, x: Tensor, kernels: Tensor, biases: Tensor | None = None
    ) -> Tensor:
        """Convolve each image with a kernel of its own.

        Args:
            x: ``(N, C_in, H, W)``.
            kernels: ``(N, C_out, C_in / groups, kh, kw)``.
            biases: ``(N, C_out)`` or None.
        """
        count = x.shape[0]
        if biases is not None:
            biases = biases.reshape(-1)
        # One grouped convolution, in which each image is a group of channels.
        y = self._convolve(
            x.reshape(1, -1, *x.shape[2:]),
            kernels.reshape(-1, *kernels.shape[2:]),
            biases,
            count * self.groups,
        )
        return y.view(count, self.out_channels, *y.shape[2:])

    def _convolve(
        self, x: Tensor, kernel: Tensor, bias: Tensor | None, groups: int
    ) -> Tensor:
        padding = self.padding
        if self.padding_mode != 'zeros':
            x = F.pad(x, self._border, mode=self.padding_mode)
            padding = (0, 0)
        return F.conv2d(
            x, kernel, bias, self.stride, padding, self.dilation, groups
        )

    def extra_repr(self) -> str:
        return (
            f'{self.in_channels}, {self.out_channels}, '
            f'kernel_size={self.kernel_size}, stride={self.stride}, '
            f'padding={self.padding}, dilation={self.dilation}, '
            f'groups={self.groups}'
        )


def plain_conv(kind: str, *args: Any, **kwargs: Any) -> nn.Conv2d:
    """The plain conv, without storage: it settles what the arguments mean."""
    bound = CONV2D.bind(*args, **kwargs)
    bound.apply_defaults()
    given = bound.arguments
    layer = (
        f'{kind} conv {given["in_channels"]} -> '
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
            f'{kind} is a 2-d convolution',
        )
    return nn.Conv2d(**{**given, 'device': 'meta'})
