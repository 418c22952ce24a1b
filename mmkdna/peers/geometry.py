"""What the arguments of a 2-d convolution mean, checked."""

import inspect
from functools import partial
from typing import Any

from torch import nn

from ..errors import check, check_int, is_int

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


def plain_conv(kind: str, *args: Any, **kwargs: Any) -> nn.Conv2d:
    """The plain conv of these arguments, without storage.

    Args:
        kind: The conv type that asks, for errors.
        *args, **kwargs: As :class:`torch.nn.Conv2d`.

    Raises:
        BadInput: If an argument is out of its range.
    """
    bound = CONV2D.bind(*args, **kwargs)
    bound.apply_defaults()
    given = bound.arguments
    into, out = given['in_channels'], given['out_channels']
    size, groups = given['kernel_size'], given['groups']
    layer = f'{kind} conv {into} -> {out}, kernel_size={size}: '
    for name in ('in_channels', 'out_channels', 'groups'):
        check_int(layer + name, given[name], 1)
    for name, channels in (('in_channels', into), ('out_channels', out)):
        expected = f'a divisor of {name}={channels}'
        check(f'{layer}groups', groups, channels % groups == 0, expected)
    for name in ('kernel_size', 'stride', 'padding', 'dilation'):
        value, least = given[name], int(name != 'padding')
        pair = value if isinstance(value, (tuple, list)) else (value, value)
        holds = len(pair) == 2 and all(map(partial(is_int, least=least), pair))
        if name == 'padding':
            holds = holds or value in ('same', 'valid')
        expected = (
            f'an int of at least {least} or two of them: {kind} is a 2-d '
            'convolution'
        )
        check(layer + name, value, holds, expected)
    return nn.Conv2d(**{**given, 'device': 'meta'})
