"""The digit scenes, and checks that the data of a config are on disk."""

from .prepare import check_pretrained, prepare_data

__all__ = ['check_pretrained', 'prepare_data']
