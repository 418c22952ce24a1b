"""ConvNeXt with KernelDNA in the pointwise convs of stages 3 and 4."""

from typing import Any

from mmengine.registry import MODELS
from mmpretrain.models.backbones import ConvNeXt

from ..errors import check_one_of
from .arguments import settings, share_pointwise


@MODELS.register_module(force=True)
class KDNAConvNeXt(ConvNeXt):
    """mmpretrain's ConvNeXt with families of pointwise convs.

    Both pointwise layers of each block in stages 3 and 4 share, in families
    of three by default. The depthwise convs stay plain. The routing of both
    layers squeezes to a quarter of the block's input channels.

    Args:
        arch: ``'tiny'``, ``'small'`` or ``'base'``.
        conv_cfg: Arguments of the type ``KernelDNA`` that differ from this
            arrangement; None for this arrangement.
        **kwargs: As mmpretrain's ``ConvNeXt``; ``linear_pw_conv`` chooses
            between linear layers and 1x1 convs. Both can share.

    Raises:
        BadInput: If the arch does not exist, or ``conv_cfg`` is of another
            type.
    """

    def __init__(
        self, arch: str = 'tiny', conv_cfg: dict | None = None, **kwargs: Any
    ) -> None:
        check_one_of('arch', arch, ('tiny', 'small', 'base'))
        defaults = dict(kernel_sizes=[1], min_channels=1, family_size=3)
        mine = settings(conv_cfg, **defaults)
        super().__init__(arch, **kwargs)
        for block in (*self.stages[2], *self.stages[3]):
            layers = block.pointwise_conv1, block.pointwise_conv2
            share_pointwise(*layers, mine)
