"""Models for inference: every layer with a kernel of its own."""

from .bake import GatedConv2d, GatedLinear, bake, load_baked

__all__ = ['GatedConv2d', 'GatedLinear', 'bake', 'load_baked']
