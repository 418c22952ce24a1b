"""``mmkdna://NAME`` and ``.safetensors`` wherever mmengine loads a file."""

import os
from collections.abc import Callable
from typing import Any

import torch
from mmengine.dist import broadcast_object_list, get_dist_info
from mmengine.runner import CheckpointLoader

from ..checkpoint import SAFE, read_checkpoint
from ..errors import BadInput

SCHEME = 'mmkdna://'


def resolve(name: str) -> str:
    """The path of an entry's file, fetched or made where it is missing.

    In a distributed job the first process does so, and the others wait:
    all have to call it.

    Args:
        name: Of the entry, with or without ``mmkdna://``.

    Raises:
        BadInput: If there is no such entry, or its file cannot be had.
    """
    name = name.removeprefix(SCHEME)
    rank, world = get_dist_info()
    if world == 1:
        return _resolve(name)
    failed: list[str | None] = [None]
    if rank == 0:
        try:
            _resolve(name)
        except BadInput as error:
            failed = [str(error)]
    broadcast_object_list(failed)
    if failed[0] is not None:
        raise BadInput(failed[0])
    # Another machine may have a cache of its own.
    return _resolve(name)


def _resolve(name: str) -> str:
    from .derive import derive
    from .index import read_index
    from .store import locate

    index = read_index()
    entry = index.find(name)
    return (derive if entry.source else locate)(entry, index)


def local_path(path: str) -> str:
    """A checkpoint's path; that of its file for a ``mmkdna://NAME``.

    Raises:
        BadInput: As :func:`resolve`.
    """
    return resolve(path) if path.startswith(SCHEME) else path


def load_from_mmkdna(filename: str, map_location: Any = None) -> dict:
    """mmengine's loader of ``mmkdna://NAME``."""
    return read_checkpoint(resolve(filename), map_location or 'cpu')


def load_from_safetensors(filename: str, map_location: Any = None) -> dict:
    """mmengine's loader of a ``.safetensors`` file."""
    return read_checkpoint(filename, map_location or 'cpu')


def register_schemes() -> None:
    """Let mmengine load ``mmkdna://NAME`` and ``.safetensors`` files."""
    loaders: dict[str, Callable] = {
        SCHEME: load_from_mmkdna,
        r'(?!\w+://).*\.safetensors$': load_from_safetensors,
    }
    for prefix, loader in loaders.items():
        CheckpointLoader.register_scheme(prefix, loader, force=True)


def load_from_local(filename: str, map_location: Any = None) -> dict:
    """mmengine's loader of other files, which runs nothing."""
    return read_checkpoint(filename, map_location or 'cpu')


def load_tensors_only() -> None:
    """From here on no checkpoint that this process loads runs code.

    mmengine falls back to a full unpickling where tensors alone do not load.
    torch knows a variable that no caller overrules; it holds for what is
    fetched from the web as well.
    """
    os.environ.pop('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', None)
    os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] = '1'
    torch.serialization.add_safe_globals(SAFE)
    CheckpointLoader.register_scheme('', load_from_local, force=True)
