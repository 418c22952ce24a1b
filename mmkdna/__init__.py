"""KernelDNA convolutions for every OpenMMLab model, by config.

``custom_imports = dict(imports=['mmkdna'])`` registers the conv layer type
``KernelDNA``, makes the model registries form families, and lets mmengine load
``mmkdna://NAME`` and ``.safetensors`` files.
"""

from .adoption import convert, keep_residuals, revert, set_fade
from .families import Family, form_families, list_families, report
from .zoo import register_schemes

__version__ = '0.1.0'

register_schemes()

__all__ = [
    'Family',
    '__version__',
    'convert',
    'form_families',
    'keep_residuals',
    'list_families',
    'report',
    'revert',
    'set_fade',
]
