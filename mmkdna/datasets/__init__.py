"""Digit scenes, and what a config needs on disk before it can run."""

from .digit_scenes import (
    CLASSES,
    SceneSpec,
    compose_scene,
    load_glyphs,
    write_scenes,
)
from .prepare import prepare_data

__all__ = [
    'CLASSES',
    'SceneSpec',
    'compose_scene',
    'load_glyphs',
    'prepare_data',
    'write_scenes',
]
