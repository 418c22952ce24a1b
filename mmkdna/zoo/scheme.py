"""``mmkdna://NAME`` and ``.safetensors`` wherever mmengine loads a file."""

import os
from typing import Any

import torch
from mmengine.dist import broadcast_object_list, get_rank
from mmengine.runner import CheckpointLoader

from ..checkpoint import SAFE, read_checkpoint
from ..errors import BadInput

SCHEME = 'mmkdna://'


def resolve(name: str) -> str:
    """The path of an entry's file; a missing file is downloaded or made.

    In a distributed job all processes have to call it: the first one
    downloads, and the others wait.

    Args:
        name: Name of the entry, with or without ``mmkdna://``.

    Raises:
        BadInput: If there is no such entry, or its file cannot be had.
    """
    # Only here: it needs requests, rich and yaml.
    from .derive import locate

    name = name.removeprefix(SCHEME)
    path, failed = '', ['']
    if get_rank() == 0:
        try:
            path = locate(name)
        except BadInput as error:
            failed = [str(error)]
    broadcast_object_list(failed)
    if failed[0]:
        raise BadInput(failed[0])
    # Another machine of the job may have a cache of its own.
    return path or locate(name)


def local_path(path: str) -> str:
    """The path of a checkpoint; ``mmkdna://NAME`` becomes that of its file.

    Raises:
        BadInput: As :func:`resolve`.
    """
    return resolve(path) if path.startswith(SCHEME) else path


def _load(filename: str, map_location: Any = None) -> dict[str, Any]:
    """Load a checkpoint for mmengine, without running its code."""
    return read_checkpoint(local_path(filename), map_location or 'cpu')


def register_schemes() -> None:
    """Let mmengine load ``mmkdna://NAME`` and ``.safetensors`` files."""
    for prefix in (SCHEME, r'(?!\w+://).*\.safetensors$'):
        CheckpointLoader.register_scheme(prefix, _load, force=True)


def load_tensors_only() -> None:
    """From now on, no checkpoint that this process loads can run code.

    mmengine unpickles everything if tensors alone do not load. torch has an
    environment variable that no caller can overrule. It also covers files
    from the web.
    """
    os.environ.pop('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', None)
    os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] = '1'
    torch.serialization.add_safe_globals(SAFE)
    CheckpointLoader.register_scheme('', _load, force=True)
