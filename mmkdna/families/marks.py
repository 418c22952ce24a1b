"""Settings on plain layers: what a config says, before any family forms."""

from typing import Any

from torch import nn

from ..errors import check
from ..layers import Settings
from ..layers.member import MEMBERS


def mark(model: nn.Module, linear: bool = False, **settings: Any) -> None:
    """Mark the plain layers of a module.

    Args:
        model: Any module; layers that are marked stay as they are.
        linear: Whether ``nn.Linear`` layers, which act on the last axis as
            pointwise convs, are marked too (with ``kernel_sizes=(1,)``).
        **settings: As in a ``conv_cfg``.

    Raises:
        BadInput: If an argument is unknown or out of its range.
    """
    check('linear', linear, isinstance(linear, bool), 'True or False')
    value = Settings.of(settings)
    kinds = (nn.Conv2d, nn.Linear) if linear else (nn.Conv2d,)
    for layer in model.modules():
        # Not a subclass, which may do something else with its weight.
        member = MEMBERS.get(type(layer))
        if member is not None and member.plain_class in kinds:
            layer.__dict__.setdefault('kernel_dna', value)
