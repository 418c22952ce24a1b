"""KernelDNA in OpenMMLab: conv type, registries, initialisation, log."""

from .builds import install
from .checkpoints import ResumableCheckpointHook, write_whole
from .conv_type import KernelDNA
from .disguise import as_plain

install()

__all__ = [
    'KernelDNA',
    'ResumableCheckpointHook',
    'as_plain',
    'install',
    'write_whole',
]
