"""Families in OpenMMLab's builds: conv type, registries, initialisation."""

from .builds import install
from .conv_type import KernelDNA
from .disguise import as_plain

install()

__all__ = ['KernelDNA', 'as_plain', 'install']
