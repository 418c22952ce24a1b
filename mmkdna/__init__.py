"""KernelDNA convolutions for every OpenMMLab model, by config.

``custom_imports = dict(imports=['mmkdna'])`` registers the conv layer type
``KernelDNA``, makes the model registries form families, and lets mmengine load
``mmkdna://NAME`` and ``.safetensors`` files.
"""

from . import peers
from .adoption import Plan, convert, plan, revert
from .deploy import bake, load_baked
from .families import Family, form_families, list_families
from .health import KernelDNAHealthHook
from .openmmlab import KernelDNA
from .report import report
from .sharding import shard_families
from .version import __version__
from .zoo import register_schemes

register_schemes()

__all__ = [
    'Family',
    'KernelDNA',
    'KernelDNAHealthHook',
    'Plan',
    '__version__',
    'bake',
    'convert',
    'form_families',
    'list_families',
    'load_baked',
    'peers',
    'plan',
    'report',
    'revert',
    'shard_families',
]
