"""The ResNet of the paper: KernelDNA in stages 3 and 4."""

from typing import Any

from mmengine.registry import MODELS
from mmpretrain.models.backbones import ResNet
from mmpretrain.models.backbones.resnet import BasicBlock, Bottleneck

from ..errors import check_one_of
from .arguments import settings


@MODELS.register_module(force=True)
class KDNAResNet(ResNet):
    """mmpretrain's ResNet with the paper's families.

    The stride-1 3x3 convs of stages 3 and 4 form families, children before
    their parent. Depth 18 has three blocks in stages 3 and 4, depth 50 seven
    in stage 3, as in the authors' code. With ``norm='BN', gate='sigmoid'``
    they also have its number of parameters. Depths 34 and 101 have the plain
    ResNet's blocks and families of two.

    Source: KernelDNA, arXiv 2503.23379, and the authors' public code.

    Args:
        depth: 18, 34, 50 or 101.
        conv_cfg: Arguments of the type ``KernelDNA`` that differ from the
            paper's arrangement; None for that arrangement.
        **kwargs: As mmpretrain's ``ResNet``; ``deep_stem`` and ``avg_down``
            make it the variants V1c and V1d.

    Raises:
        BadInput: If the depth does not exist, or ``conv_cfg`` is of another
            type.
    """

    arch_settings = {
        18: (BasicBlock, (2, 2, 3, 3)),
        34: (BasicBlock, (3, 4, 6, 3)),
        50: (Bottleneck, (3, 4, 7, 3)),
        101: (Bottleneck, (3, 4, 23, 3)),
    }

    def __init__(
        self, depth: int, conv_cfg: dict | None = None, **kwargs: Any
    ) -> None:
        check_one_of('depth', depth, self.arch_settings)
        family_size = [3, 2] if depth == 18 else 2
        mine = settings(conv_cfg, family_size=family_size)
        conv_cfg = dict(type='KernelDNA', **mine)
        super().__init__(depth, conv_cfg=conv_cfg, **kwargs)
