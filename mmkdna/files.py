"""Write files so that they are complete or absent."""

import hashlib
import json
import os
import os.path as osp
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import BadInput


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
    beside = f'{osp.abspath(path)}.{os.urandom(4).hex()}.part'
    try:
        os.makedirs(osp.dirname(beside), exist_ok=True)
        open(beside, 'x').close()
    except OSError as error:
        raise BadInput(f'{path} cannot be written: {error.strerror}') from None
    try:
        yield beside
        os.replace(beside, path)
    except BaseException:
        os.unlink(beside)
        raise


def write_text(text: str, path: str | Path) -> None:
    """Write text to a file by :func:`written_beside`."""
    with written_beside(path) as beside:
        Path(beside).write_text(text, encoding='utf-8')


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
