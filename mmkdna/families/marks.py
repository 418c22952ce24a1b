"""Mark plain layers with settings, before any family forms."""

from typing import Any

from torch import nn

from ..errors import check
from ..layers import Settings
from ..layers.member import MEMBERS


def mark(model: nn.Module, linear: bool = False, **settings: Any) -> None:
    """Mark the plain layers of a module.

    Args:
        model: Any module; layers with a mark keep theirs.
        linear: Whether to mark ``nn.Linear`` layers, too. They act as 1 x 1
            convs on the last axis, so they need ``kernel_sizes=(1,)``.
        **settings: As in a ``conv_cfg``.

    Raises:
        BadInput: If an argument is unknown or out of its range.
    """
    check('linear', linear, isinstance(linear, bool), 'True or False')
    value = Settings.of(settings)
    kinds = (nn.Conv2d, nn.Linear) if linear else (nn.Conv2d,)
    for layer in model.modules():
        # Not a subclass: it may use its weight in another way.
        member = MEMBERS.get(type(layer))
        if member is not None and member.plain_class in kinds:
            layer.__dict__.setdefault('kernel_dna', value)
