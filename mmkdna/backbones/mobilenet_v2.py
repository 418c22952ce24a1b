"""The MobileNetV2 of the paper: KernelDNA in the pointwise convs."""

from typing import Any

from mmengine.registry import MODELS
from mmpretrain.models.backbones import MobileNetV2

from ..errors import check_one_of
from .arguments import settings, share_pointwise

# Family size by the number of the stage, as the authors share.
FAMILY_SIZES = {3: 2, 4: 3, 5: 2, 6: 2}


@MODELS.register_module(force=True)
class KDNAMobileNetV2(MobileNetV2):
    """mmpretrain's MobileNetV2 with the paper's families.

    In the four stages with 24, 32, 64 and 96 input channels (at width 1.0),
    the last 2, 3, 2 and 2 blocks form two families: one of their first, one
    of their last pointwise convs. The routing squeezes to a quarter of the
    block's input channels.

    Source: KernelDNA, arXiv 2503.23379, and the authors' public code.

    Args:
        widen_factor: 1.0 or 0.5.
        conv_cfg: Arguments of the type ``KernelDNA`` that differ from the
            paper's arrangement; None for that arrangement.
        **kwargs: As mmpretrain's ``MobileNetV2``.

    Raises:
        BadInput: If the width does not exist, or ``conv_cfg`` is of another
            type.
    """

    def __init__(
        self,
        widen_factor: float = 1.0,
        conv_cfg: dict | None = None,
        **kwargs: Any,
    ) -> None:
        check_one_of('widen_factor', widen_factor, (1.0, 0.5))
        mine = settings(conv_cfg, kernel_sizes=[1], min_channels=1)
        super().__init__(widen_factor, **kwargs)
        for number, size in FAMILY_SIZES.items():
            # The stride-1 blocks: the last ones of the stage.
            for block in getattr(self, f'layer{number}')[-size:]:
                layers = block.conv[0].conv, block.conv[-1].conv
                share_pointwise(*layers, {'family_size': size, **mine})
