"""Checkpoints by name: ``mmkdna://NAME``, an index, a cache."""

from .scheme import load_tensors_only, local_path, register_schemes, resolve

__all__ = ['load_tensors_only', 'local_path', 'register_schemes', 'resolve']
