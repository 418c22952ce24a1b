"""What the arguments of a 2-d convolution mean, checked."""

import inspect
from typing import Any

from torch import nn

from ..errors import are_ints, check

CONV2D = inspect.signature(nn.Conv2d)
"""The arguments of :class:`torch.nn.Conv2d`."""
GEOMETRY = [
    name
    for name in CONV2D.parameters
    if name not in ('bias', 'device', 'dtype')
]
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
    layer = f'{kind} conv {given["in_channels"]} -> {given["out_channels"]}: '
    for name in ('kernel_size', 'stride', 'padding', 'dilation'):
        value, least = given[name], int(name != 'padding')
        pair = value if isinstance(value, (tuple, list)) else (value, value)
        holds = len(pair) == 2 and are_ints(tuple(pair), least)
        if name == 'padding':
            holds = holds or isinstance(value, str)
        expected = f'an int of at least {least} or two of them: it is 2-d'
        check(layer + name, value, holds, expected)
    # It checks the rest itself.
    return nn.Conv2d(**{**given, 'device': 'meta'})
