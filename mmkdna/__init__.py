"""KernelDNA convolutions for every OpenMMLab model, by config.

``custom_imports = dict(imports=['mmkdna'])`` registers the conv layer type
``KernelDNA`` and makes the model registries form families.
"""

from .families import Family, form_families, list_families, report

__version__ = '0.1.0'

__all__ = ['Family', '__version__', 'form_families', 'list_families', 'report']
