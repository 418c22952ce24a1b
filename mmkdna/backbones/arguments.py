"""What the arguments of the backbones have in common."""

from collections.abc import Collection
from typing import Any

from ..families.marks import settings_of
from ..layers import Settings


def one_of(name: str, value: object, choices: Collection) -> None:
    """Refuse a value that is none of the choices.

    Raises:
        ValueError: If it is none.
    """
    if value not in choices:
        raise ValueError(
            f'{name}={value!r}: expected one of '
            + ', '.join(repr(choice) for choice in choices)
        )


def kernel_dna_cfg(conv_cfg: dict | None, **defaults: Any) -> dict:
    """A ``conv_cfg`` of the type ``KernelDNA``, completed by defaults.

    Raises:
        ValueError: If ``conv_cfg`` is of another type.
    """
    conv_cfg = dict(conv_cfg or {})
    kind = conv_cfg.setdefault('type', 'KernelDNA')
    if settings_of(conv_cfg) is None:
        raise ValueError(
            f"conv_cfg=dict(type={kind!r}): expected dict(type='KernelDNA', "
            '...) or None; for another conv type use the plain backbone'
        )
    return {**defaults, **conv_cfg}


def expand_and_project(arguments: dict, ratio: int) -> tuple[dict, dict]:
    """Arguments for the pointwise convs of an inverted bottleneck.

    Both squeeze to the same width, that of the block's input channels over
    the reduction; the project conv's input is ``ratio`` times as wide.
    """
    reduction = arguments.get('reduction', Settings.reduction)
    return arguments, {**arguments, 'reduction': reduction * ratio}
