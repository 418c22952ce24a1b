"""What the arguments of the backbones have in common."""

from typing import Any

from ..errors import check
from ..layers import Settings
from ..openmmlab.conv_type import settings_of


def kernel_dna_cfg(conv_cfg: dict | None, **defaults: Any) -> dict:
    """A ``conv_cfg`` of the type ``KernelDNA``, completed by defaults.

    Raises:
        BadInput: If ``conv_cfg`` is of another type.
    """
    conv_cfg = {'type': 'KernelDNA', **(conv_cfg or {})}
    check(
        'conv_cfg',
        conv_cfg,
        settings_of(conv_cfg) is not None,
        "dict(type='KernelDNA', ...) or None; for another conv type use the "
        'plain backbone',
    )
    # A build has added which conv type is the default here: nn.Conv2d.
    conv_cfg.pop('plain', None)
    return {**defaults, **conv_cfg}


def expand_and_project(arguments: dict, ratio: int) -> tuple[dict, dict]:
    """Arguments for the pointwise convs of an inverted bottleneck.

    Both squeeze to the same width, that of the block's input channels over
    the reduction; the project conv's input is ``ratio`` times as wide.
    """
    reduction = arguments.get('reduction', Settings.reduction)
    return arguments, {**arguments, 'reduction': reduction * ratio}
