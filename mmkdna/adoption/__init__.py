"""Adopting a plain network: its weights in, KernelDNA in its layers."""

from ..families.forming import when_built
from .convert import convert, revert
from .state_dict import translate, watch

when_built.append(watch)

__all__ = ['convert', 'revert', 'translate', 'watch']
