"""Adopt a plain network: load its weights, convert its layers."""

from ..families.forming import when_built
from .convert import convert, revert
from .plan import Plan, plan
from .state_dict import translate, watch

when_built.append(watch)

__all__ = ['Plan', 'convert', 'plan', 'revert', 'translate', 'watch']
