"""The paper's backbones; ``custom_imports=['mmkdna.backbones']``."""

from .mobilenet_v2 import KDNAMobileNetV2
from .resnet import KDNAResNet

__all__ = ['KDNAMobileNetV2', 'KDNAResNet']
