"""Digit scenes, and what a config needs on disk before it can run."""

from .prepare import prepare_data

__all__ = ['prepare_data']
