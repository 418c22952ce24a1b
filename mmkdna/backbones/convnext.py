"""ConvNeXt with KernelDNA in the pointwise convs of stages 3 and 4."""

from typing import Any

from mmengine.registry import MODELS
from mmpretrain.models.backbones import ConvNeXt
from mmpretrain.models.backbones.convnext import ConvNeXtBlock
from torch import nn

from ..layers import KernelDNALinear, Policy, kernel_dna_conv
from .arguments import expand_and_project, kernel_dna_cfg, one_of

ARCHS = ('tiny', 'small', 'base')


@MODELS.register_module(force=True)
class KDNAConvNeXt(ConvNeXt):
    """mmpretrain's ConvNeXt with families of pointwise convs.

    Both pointwise layers of the blocks of stages 3 and 4 are KernelDNA's, in
    families of three by default; the depthwise convs are ConvNeXt's own. The
    routing of both squeezes to a quarter of the block's input channels.

    Args:
        arch: ``'tiny'``, ``'small'`` or ``'base'``.
        conv_cfg: Arguments of the type ``KernelDNA`` that differ from this
            arrangement; None for this arrangement.
        **kwargs: As mmpretrain's ``ConvNeXt``; ``linear_pw_conv`` chooses
            between linear layers and 1x1 convs, either can be shared.

    Raises:
        ValueError: If the arch does not exist, or ``conv_cfg`` is of another
            type.
    """

    def __init__(
        self, arch: str = 'tiny', conv_cfg: dict | None = None, **kwargs: Any
    ) -> None:
        one_of('arch', arch, ARCHS)
        conv_cfg = kernel_dna_cfg(
            conv_cfg, kernel_sizes=[1], min_channels=1, family_size=3
        )
        del conv_cfg['type']
        super().__init__(arch, **kwargs)
        for stage in self.stages[2:]:
            for block in stage:
                _share_pointwise(block, conv_cfg)
        # The layers that are new in a frozen stage, too.
        self._freeze_stages()


def _share_pointwise(block: ConvNeXtBlock, arguments: dict) -> None:
    """Make a block's pointwise layers KernelDNA's, squeezed alike."""
    channels, hidden = block.pointwise_conv1.weight.shape[1::-1]
    expand, project = expand_and_project(arguments, hidden // channels)
    make = _linear if block.linear_pw_conv else _conv
    block.pointwise_conv1 = make(channels, hidden, expand)
    block.pointwise_conv2 = make(hidden, channels, project)


def _linear(inputs: int, outputs: int, arguments: dict) -> nn.Module:
    policy = Policy.from_conv_cfg(arguments)
    return KernelDNALinear(inputs, outputs, policy=policy)


def _conv(inputs: int, outputs: int, arguments: dict) -> nn.Module:
    return kernel_dna_conv(inputs, outputs, 1, **arguments)
