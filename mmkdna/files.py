"""Files that are whole or not there at all."""

import hashlib
import json
import os
import os.path as osp
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import BadInput


@contextmanager
def written_beside(path: str | Path) -> Iterator[str]:
    """A file to write, moved to ``path`` when the block ends.

    Where the block raises, the file is removed and ``path`` is as it was.

    Args:
        path: Where the file ends up; its folder is made.

    Yields:
        The name of an empty file in the same folder.

    Raises:
        BadInput: If no file can be there.
    """
    folder = osp.dirname(osp.abspath(path))
    if osp.isdir(path):
        raise BadInput(f'{path} cannot be written: it is a folder')
    try:
        os.makedirs(folder, exist_ok=True)
        handle, beside = tempfile.mkstemp(dir=folder, suffix='.part')
    except OSError as error:
        raise BadInput(f'{path} cannot be written: {error.strerror}') from None
    os.close(handle)
    try:
        yield beside
        # mkstemp's files are for their owner alone.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(beside, 0o666 & ~umask)
        os.replace(beside, path)
    except BaseException:
        os.unlink(beside)
        raise


def write_json(value: Any, path: str | Path) -> None:
    """Write JSON, whole."""
    with written_beside(path) as beside, open(beside, 'w') as file:
        json.dump(value, file, indent=1)


def sha256(path: str) -> str:
    """Of a file's bytes, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
