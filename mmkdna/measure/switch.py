"""Any conv type in any network, by its name."""

import ast
from collections.abc import Iterable
from typing import Any

from mmcv.cnn import build_conv_layer
from torch import nn

from ..errors import BadInput
from ..families import form_families
from ..peers import TYPES
from ..peers.geometry import GEOMETRY

PLAIN = 'plain'
CONV_TYPES = ('KernelDNA', *TYPES)


def conv_cfgs(types: Iterable[str]) -> dict[str, dict | None]:
    """The ``conv_cfg`` of each conv type by its text, plain first."""
    return {name: parse_conv_type(name) for name in (PLAIN, *types)}


def parse_conv_type(text: str) -> dict | None:
    """The ``conv_cfg`` of ``TYPE`` or ``TYPE,argument=value,...``.

    Raises:
        BadInput: If there is no such conv type, or its arguments are not so
            written.
    """
    kind, comma, arguments = text.partition(',')
    if text == PLAIN:
        return None
    # A config may have brought more of them.
    known = ('KernelDNA', *TYPES)
    if kind not in known:
        raise BadInput(
            f'--types {text}: there is no conv type {kind!r}, expected one of '
            f'{", ".join(known)}, with arguments as in ODConv,experts=4'
        )
    try:
        call: Any = ast.parse(f'dict({arguments})', mode='eval').body
        if call.args or (comma and not call.keywords):
            raise ValueError('no argument=value')
        values = {k.arg: _value(k.value) for k in call.keywords}
    except (SyntaxError, ValueError) as error:
        raise BadInput(
            f'--types {text}: {arguments!r}: expected argument=value, as in '
            f'ODConv,experts=4 ({error})'
        ) from error
    return dict(type=kind, **values)


def _value(node: ast.expr) -> Any:
    """A literal, or a word as it is: norm=LN."""
    return node.id if isinstance(node, ast.Name) else ast.literal_eval(node)


def switch_convs(model: nn.Module, conv_cfg: dict | None) -> nn.Module:
    """Build each ``nn.Conv2d`` of a network anew as another conv type.

    It changes the network in place, and keeps no weights: that is for timing.
    :func:`mmkdna.convert` keeps what a network has learned. ``None`` leaves it
    as it is.

    Raises:
        BadInput: If ``conv_cfg`` has a wrong argument.
    """
    if conv_cfg is None:
        return model
    try:
        for name, conv in [*model.named_modules()]:
            if type(conv) is not nn.Conv2d:
                continue
            path, _, last = name.rpartition('.')
            geometry = {key: getattr(conv, key) for key in GEOMETRY}
            new = build_conv_layer(
                dict(conv_cfg), **geometry, bias=conv.bias is not None
            )
            setattr(model.get_submodule(path), last, new)
        form_families(model)
    except (ValueError, KeyError) as error:
        raise BadInput(f'{conv_cfg}: {error}') from error
    return model
