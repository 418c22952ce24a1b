"""Digit scenes, and what a config needs on disk before it can run."""

from .prepare import check_pretrained, prepare_data

__all__ = ['check_pretrained', 'prepare_data']
