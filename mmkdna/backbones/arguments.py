"""What the arguments of the backbones have in common."""

from typing import Any

from torch import nn

from ..errors import BadInput
from ..families import mark
from ..layers import Settings
from ..openmmlab.conv_type import settings_of


def settings(conv_cfg: dict | None, **defaults: Any) -> dict:
    """The arguments of a KernelDNA ``conv_cfg``, filled up with defaults.

    Raises:
        BadInput: If ``conv_cfg`` has another type.
    """
    mine = settings_of({'type': 'KernelDNA', **(conv_cfg or {})})
    if mine is None:
        raise BadInput(
            f"conv_cfg={conv_cfg}: expected dict(type='KernelDNA', ...) or "
            'None; for another conv type use the plain backbone'
        )
    # The registry's build adds the default conv type: nn.Conv2d.
    mine.pop('plain', None)
    return {**defaults, **mine}


def share_pointwise(expand: nn.Module, project: Any, cfg: dict) -> None:
    """Mark the two pointwise layers of an inverted bottleneck.

    Both squeeze to the block's input channels over the reduction. The project
    layer's input is wider, so its reduction is larger.
    """
    out, hidden = project.weight.shape[:2]
    reduction = cfg.get('reduction', Settings.reduction)
    mark(expand, linear=True, **cfg)
    cfg = {**cfg, 'reduction': reduction * (hidden // out)}
    mark(project, linear=True, **cfg)
