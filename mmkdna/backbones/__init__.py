"""The paper's backbones (``custom_imports`` of ``mmkdna.backbones``)."""

from .convnext import KDNAConvNeXt
from .mobilenet_v2 import KDNAMobileNetV2
from .resnet import KDNAResNet

__all__ = ['KDNAConvNeXt', 'KDNAMobileNetV2', 'KDNAResNet']
