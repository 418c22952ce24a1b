"""The model zoo: an index of checkpoints, and a cache of their files."""

from .scheme import load_tensors_only, local_path, register_schemes, resolve

__all__ = ['load_tensors_only', 'local_path', 'register_schemes', 'resolve']
