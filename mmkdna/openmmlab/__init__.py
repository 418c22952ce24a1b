"""KernelDNA in OpenMMLab: conv type, registries, initialisation, log."""

from .builds import install
from .conv_type import KernelDNA
from .disguise import as_plain

install()

__all__ = ['KernelDNA', 'as_plain', 'install']
