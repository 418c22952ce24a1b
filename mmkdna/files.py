"""Write files and folders so that they are complete or absent.

They are written beside their place, under a name that ends in ``.part``, and
moved. A process holds a lock on its part; the system takes it back when the
process ends, however it ends. So the next one that writes to the same place
knows which parts were left by a kill, and removes them.
"""

import glob
import hashlib
import json
import os
import os.path as osp
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .errors import NO_ROOM, BadInput

try:
    import fcntl
except ImportError:
    # Windows: what a kill leaves stays, and nobody reads it.
    fcntl = None  # type: ignore[assignment]


@contextmanager
def written_beside(path: str | Path) -> Iterator[str]:
    """Write to a temporary file, which moves to ``path`` at the end.

    If the block raises, the file is removed and ``path`` does not change.

    Args:
        path: The final path; its folder is made.

    Yields:
        The name of an empty file in the same folder.

    Raises:
        BadInput: If no file can be written there.
    """
    if osp.isdir(path):
        raise BadInput(f'{path} cannot be written: it is a folder')
    with _beside(path, lambda part: open(part, 'x').close()) as beside:
        yield beside
        os.replace(beside, path)


@contextmanager
def made_beside(path: str | Path) -> Iterator[str]:
    """Fill a temporary folder, which moves to ``path`` at the end.

    If the block raises, the folder is removed.

    Args:
        path: The final path: nothing, or an empty folder.

    Yields:
        The name of an empty folder beside it.

    Raises:
        BadInput: If no folder can be made there.
        OSError: If ``path`` holds something at the end.
    """
    with _beside(path, os.mkdir) as beside:
        yield beside
        os.rename(beside, path)


@contextmanager
def _beside(path: str | Path, make: Callable[[str], None]) -> Iterator[str]:
    place = osp.abspath(path)
    beside, folder = f'{place}.{os.urandom(4).hex()}.part', osp.dirname(place)
    try:
        os.makedirs(folder, exist_ok=True)
        # Nobody takes a part for a left one before its lock is held. A part
        # is new, and its lock is this process' own: nothing is left in it.
        alone = None
        if not folder.endswith('.part'):
            alone = _lock(folder, wait=True)
        try:
            if alone is not None:
                _sweep(place)
            make(beside)
            held = _lock(beside)
        finally:
            _unlock(alone)
    except OSError as error:
        raise _unwritten(path, error) from None
    try:
        yield beside
    except BaseException as error:
        _remove(beside)
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise _unwritten(path, error) from None
        raise
    finally:
        _unlock(held)


def _unwritten(path: str | Path, error: OSError) -> BadInput:
    return BadInput(f'{path} cannot be written: {error.strerror}')


def _sweep(place: str) -> None:
    """Remove the parts of a place that no living process holds."""
    for left in glob.glob(f'{glob.escape(place)}.*.part'):
        held = _lock(left)
        if held is not None:
            _remove(left)
        _unlock(held)


def _lock(path: str, wait: bool = False) -> int | None:
    """A handle that holds the lock of a file or folder.

    None if another process has it, or the file system knows no such locks.
    """
    handle = None
    try:
        # Some network file systems lock only what is open for writing.
        way = os.O_RDONLY if osp.isdir(path) else os.O_RDWR
        handle = os.open(path, way)
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except (OSError, AttributeError):
        _unlock(handle)
        return None
    return handle


def _unlock(handle: int | None) -> None:
    if handle is not None:
        os.close(handle)


def _remove(path: str) -> None:
    if osp.isdir(path):
        shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        os.unlink(path)


def write_bytes(data: bytes, path: str | Path) -> None:
    """Write a file by :func:`written_beside`."""
    with written_beside(path) as beside:
        Path(beside).write_bytes(data)


def put_between(text: str, begin: str, end: str, new: str) -> str:
    """A text with what is between two marks made anew.

    Raises:
        BadInput: If it does not have the marks, in this order.
    """
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise BadInput(f'the page: expected {begin} and {end} in it')
    return before + begin + new + end + after


def write_text(text: str, path: str | Path) -> None:
    """Write text to a file by :func:`written_beside`."""
    write_bytes(text.encode(), path)


def write_json(value: Any, path: str | Path) -> None:
    """Write a value as JSON by :func:`written_beside`."""
    write_text(json.dumps(value, indent=1), path)


def sha256(path: str) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
