"""The KernelDNA convolution, its adapter and the policy it carries."""

from .adapter import Adapter, DynamicRouting, StaticModulation
from .conv import KernelDNAConv2d, kernel_dna_conv
from .policy import Policy

__all__ = [
    'Adapter',
    'DynamicRouting',
    'KernelDNAConv2d',
    'Policy',
    'StaticModulation',
    'kernel_dna_conv',
]
