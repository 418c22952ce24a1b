"""Adopting a pretrained plain network: its weights in, its function kept."""

from ..families import linking
from .convert import convert, revert
from .fade import KernelFadeHook, keep_residuals, residual_names, set_fade
from .fit import Fit, fit_modulation
from .loading import watch

linking.when_formed.append(watch)

__all__ = [
    'Fit',
    'KernelFadeHook',
    'convert',
    'fit_modulation',
    'keep_residuals',
    'residual_names',
    'revert',
    'set_fade',
    'watch',
]
