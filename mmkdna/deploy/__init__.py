"""Models for inference: every layer has its own kernel."""

from .bake import GatedConv2d, GatedLinear, bake, load_baked

__all__ = ['GatedConv2d', 'GatedLinear', 'bake', 'load_baked']
