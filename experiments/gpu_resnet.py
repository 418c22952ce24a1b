"""A ResNet that needs mmcv.cnn alone: of any width, depth and stem."""

from collections.abc import Sequence

from mmcv.cnn.resnet import BasicBlock, Bottleneck, make_res_layer
from mmengine.model import BaseModule
from torch import Tensor, nn

BLOCKS = dict(basic=BasicBlock, bottleneck=Bottleneck)


class ResNet(BaseModule):
    """A classifier; ``ResNet('bottleneck', (3, 4, 6, 3))`` is R-50.

    Args:
        block: A key of BLOCKS.
        depths: Blocks of each stage.
        width: Channels of the first stage.
        classes: How many logits.
        small: For small images: a 3x3 stem of stride 1, and no pooling.

    Source: arXiv 1512.03385.
    """

    def __init__(
        self,
        block: str,
        depths: Sequence[int],
        width: int = 64,
        classes: int = 1000,
        small: bool = False,
    ) -> None:
        init = dict(type='Kaiming', layer='Conv2d')
        super().__init__(init_cfg=init)
        kernel, stride = (3, 1) if small else (7, 2)
        pad = kernel // 2
        self.conv1 = nn.Conv2d(3, width, kernel, stride, pad, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        pool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.maxpool = nn.Identity() if small else pool
        kind, channels, stages = BLOCKS[block], width, []
        for i, depth in enumerate(depths):
            planes, stride = width * 2**i, 1 if i == 0 else 2
            layer = make_res_layer(kind, channels, planes, depth, stride)
            channels = planes * kind.expansion
            stages.append(layer)
        self.layers = nn.ModuleList(stages)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(N, classes)`` of images ``(N, 3, H, W)``."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for layer in self.layers:
            x = layer(x)
        return self.fc(x.mean((2, 3)))
