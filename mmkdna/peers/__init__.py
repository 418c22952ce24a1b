"""The other dynamic convolutions, each a conv layer type of its own.

``CondConv``, ``DyConv``, ``ODConv``, ``KernelWarehouse`` and ``FDConv`` are
implemented from their papers, with the published defaults. Unlike a KernelDNA
child, they compute a kernel for each image.
"""

from .base import TYPES, DynamicConv2d
from .experts import CondConv2d, DyConv2d, ODConv2d
from .fdconv import FDConv2d
from .kernel_warehouse import KernelWarehouseConv2d
from .temperature import TemperatureHook

__all__ = [
    'TYPES',
    'CondConv2d',
    'DyConv2d',
    'DynamicConv2d',
    'FDConv2d',
    'KernelWarehouseConv2d',
    'ODConv2d',
    'TemperatureHook',
]
