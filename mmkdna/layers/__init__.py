"""The KernelDNA layers, their adapter and the settings that they carry."""

from .adapter import Adapter, DynamicRouting, StaticModulation
from .member import KernelDNAConv2d, KernelDNALayer, KernelDNALinear
from .settings import Settings

__all__ = [
    'Adapter',
    'DynamicRouting',
    'KernelDNAConv2d',
    'KernelDNALayer',
    'KernelDNALinear',
    'Settings',
    'StaticModulation',
]
