"""Read checkpoint files without running their code, and write them."""

import codecs
import io
import json
import os.path as osp
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor

from .errors import BadInput, check
from .files import write_bytes
from .layers.adapter import DynamicRouting, check_version


def _called(path: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, allowed where a pickle calls it by this path."""

    def named(*args: Any) -> Any:
        return function(*args)

    # torch compares these with what the pickle says.
    named.__module__, _, named.__name__ = path.rpartition('.')
    named.__qualname__ = named.__name__
    return named


def _attribute(owner: Any, name: str) -> Any:
    """getattr, for what a pickled HistoryBuffer needs of it."""
    if owner is not HistoryBuffer:
        raise pickle.UnpicklingError(f'GLOBAL getattr of {owner!r}')
    return getattr(owner, name)


_scalar: Any = np.float64(0).__reduce__()[0]
_array: Any = np.zeros(0).__reduce__()[0]

SAFE = [
    HistoryBuffer,
    _called('builtins.getattr', _attribute),
    np.ndarray,
    np.dtype,
    *{type(np.dtype(kind)) for kind in ('f4', 'f8', 'i4', 'i8', 'u1', '?')},
    # By the names of numpy 1 and 2, whichever wrote the file.
    _called('numpy.core.multiarray.scalar', _scalar),
    _called('numpy._core.multiarray.scalar', _scalar),
    _called('numpy.core.multiarray._reconstruct', _array),
    _called('numpy._core.multiarray._reconstruct', _array),
    # Bytes, as an older pickle protocol has them: a text and its encoding.
    codecs.encode,
]
"""The classes and functions that mmengine saves in addition to tensors."""

VERSION = 'mmkdna_state_dict_version'
"""The note of a file that says which version of the adapters it has."""
_WRITTEN = {VERSION: str(DynamicRouting._version)}
METADATA = 'mmkdna_metadata'
"""The note of a ``.safetensors`` file with the families and gates: what the
metadata of a state dict has under keys that begin with ``kernel_dna``."""

_NO_WEIGHTS = (
    'holds no state dict: expected tensors by name, or a dict with them as '
    "'state_dict', as mmengine saves it"
)


def read_weights(path: str) -> dict[str, Tensor]:
    """The state dict of a checkpoint, on the CPU.

    Args:
        path: A ``.safetensors`` file, or what ``torch.save`` wrote: a state
            dict, or a dict with one as ``'state_dict'`` or ``'model'``.

    Raises:
        FileNotFoundError: If there is no such file.
        BadInput: As :func:`read_checkpoint`; if the file holds no weights, or
            weights that are NaN or infinite.
    """
    loaded = read_checkpoint(path)
    for key in ('state_dict', 'model'):
        inner = loaded.get(key)
        loaded = inner if isinstance(inner, dict) else loaded
    if not loaded or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise BadInput(f'{path} {_NO_WEIGHTS}')
    for name, tensor in loaded.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise BadInput(
                f'{path}: {name} is NaN or infinite: its training diverged, '
                'take an earlier checkpoint'
            )
    return loaded


def read_checkpoint(path: str, map_location: Any = 'cpu') -> dict[str, Any]:
    """All of a checkpoint, as mmengine's runner takes it.

    Args:
        path: A ``.safetensors`` file, or what ``torch.save`` wrote.
        map_location: As of ``torch.load``.

    Raises:
        FileNotFoundError: If there is no such file.
        BadInput: If the file is damaged, holds something that only running
            code could restore, or no dict; if a later version wrote it.
    """
    path = osp.expanduser(path)
    if not osp.isfile(path):
        raise FileNotFoundError(f'checkpoint {path} does not exist')
    loaded = _load(path, map_location)
    meta = loaded.get('meta')
    version = str(meta.get(VERSION) if isinstance(meta, dict) else None)
    check_version(path, int(version) if version.isdecimal() else 1)
    return loaded


def _load(path: str, map_location: Any) -> dict[str, Any]:
    if path.endswith('.safetensors'):
        return _load_safetensors(path, map_location)
    torch.serialization.add_safe_globals(SAFE)
    try:
        loaded = torch.load(path, map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        raise unsafe(path, error) from None
    # Damaged bytes are instructions to torch's unpickler, so any error.
    except Exception as error:
        raise _damaged(path, str(error).partition('. ')[0]) from None
    if not isinstance(loaded, dict):
        raise BadInput(f'{path} {_NO_WEIGHTS}')
    return loaded


def _damaged(path: str, why: str) -> BadInput:
    return BadInput(
        f'{path} is damaged or no checkpoint ({why or "empty"}); copy or '
        'download it again, and compare its size with the source'
    )


def unsafe(path: str, error: pickle.UnpicklingError) -> BadInput:
    """The error for a pickle that holds more than tensors."""
    named = re.search(r'GLOBAL ([\w.]+)', str(error))
    if named is None:
        return _damaged(path, 'no pickle')
    return BadInput(
        f'{path} holds more than tensors: restoring it calls {named[1]}, and '
        'so could run any code. If you trust where it comes from, save its '
        'weights alone: torch.save(torch.load(PATH, map_location="cpu", '
        "weights_only=False)['state_dict'], NEW_PATH)"
    )


def _load_safetensors(path: str, map_location: Any) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    device = map_location if isinstance(map_location, str) else 'cpu'
    try:
        with safe_open(path, 'pt', device) as file:
            meta: dict[str, Any] = dict(file.metadata() or {})
            names = file.keys()
            weights = OrderedDict((n, file.get_tensor(n)) for n in names)
        # The inferencers read it in the form that mmengine's hook saves.
        if 'dataset_meta' in meta:
            meta['dataset_meta'] = json.loads(meta['dataset_meta'])
        noted = json.loads(meta.pop(METADATA, '{}'))
        if not isinstance(noted, dict) or not all(
            isinstance(metadata, dict) for metadata in noted.values()
        ):
            raise ValueError(f'{METADATA} is no JSON object of objects')
        weights._metadata = OrderedDict(noted)  # type: ignore[attr-defined]
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, str(error)) from None
    return {'state_dict': weights, 'meta': meta}


def write_weights(
    weights: Mapping[str, Tensor], path: str, note: Mapping[str, str]
) -> None:
    """Write a state dict to a file.

    Args:
        weights: Tensors by name.
        path: Ends in ``.safetensors`` or ``.pth``.
        note: Saved with them: safetensors' metadata, or ``'meta'``.
    """
    form = packed if path.endswith('.safetensors') else _pickled
    write_bytes(form(weights, note), path)


# In memory first: neither form's own writer says that a disk is full, and
# that of safetensors leaves a file of its own where it is killed.


def packed(weights: Mapping[str, Tensor], note: Mapping[str, str]) -> bytes:
    """A state dict as the bytes of a ``.safetensors`` file.

    Equal weights and notes give equal bytes.
    """
    from safetensors.torch import save

    notes = {'format': 'pt', **_WRITTEN, **_families(weights), **note}
    data = save(_own(weights), notes)
    # It begins with the length of a JSON header, where safetensors puts the
    # notes in an order of chance.
    end = 8 + int.from_bytes(data[:8], 'little')
    header = json.loads(data[8:end])
    header['__metadata__'] = dict(sorted(header['__metadata__'].items()))
    text = json.dumps(header, separators=(',', ':')).encode()
    text += b' ' * (-len(text) % 8)
    return len(text).to_bytes(8, 'little') + text + data[end:]


def _pickled(weights: Mapping[str, Tensor], note: Mapping[str, str]) -> bytes:
    buffer = io.BytesIO()
    meta = {**_WRITTEN, **note}
    torch.save({'state_dict': _own(weights), 'meta': meta}, buffer)
    return buffer.getvalue()


def _families(weights: Mapping[str, Tensor]) -> dict[str, str]:
    """What a state dict says of its families, as a note; nothing if none."""
    ours = {}
    for module, metadata in getattr(weights, '_metadata', {}).items():
        of_ours = [key for key in metadata if key.startswith('kernel_dna')]
        if of_ours:
            ours[module] = {key: metadata[key] for key in of_ours}
    return {METADATA: json.dumps(ours, sort_keys=True)} if ours else {}


def mapped(
    change: Callable[[str, Tensor], Tensor], weights: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """A state dict whose tensors are changed, with the same metadata."""
    result = OrderedDict((k, change(k, v)) for k, v in weights.items())
    if hasattr(weights, '_metadata'):
        result._metadata = weights._metadata  # type: ignore[attr-defined]
    return result


def _own(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A copy of each: safetensors refuses tensors that share memory."""
    form = torch.contiguous_format
    return mapped(
        lambda _, value: value.detach().cpu().clone(memory_format=form),
        weights,
    )


def check_ending(path: str) -> None:
    """Check the name of a file to be written, before any work is done.

    Raises:
        BadInput: If its ending stands for no format.
    """
    known = path.endswith(('.safetensors', '.pth'))
    check('DST', path, known, 'a name that ends in .safetensors or .pth')
