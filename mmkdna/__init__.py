"""KernelDNA convolutions for every OpenMMLab model, by config.

``custom_imports = dict(imports=['mmkdna'])`` registers the conv layer type
``KernelDNA`` and makes the model registries form families.
"""

from .adoption import convert, keep_residuals, revert, set_fade
from .families import Family, form_families, list_families, report

__version__ = '0.1.0'

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
