"""The KernelDNA layers, their adapter and the policy they carry."""

from .adapter import Adapter, DynamicRouting, StaticModulation
from .base import KernelDNALayer
from .conv import KernelDNAConv2d, kernel_dna_conv
from .linear import KernelDNALinear
from .policy import Policy

__all__ = [
    'Adapter',
    'DynamicRouting',
    'KernelDNAConv2d',
    'KernelDNALayer',
    'KernelDNALinear',
    'Policy',
    'StaticModulation',
    'kernel_dna_conv',
]
