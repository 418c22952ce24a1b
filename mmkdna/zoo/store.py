"""Find a file of the zoo: in the cache, on a mirror, at its own address."""

import os
import os.path as osp
from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout
from mmengine.logging import print_log

from ..errors import BadInput
from ..files import sha256
from .download import Unavailable, fetch
from .index import is_url


def home() -> str:
    """The folder of the cache: ``MMKDNA_HOME``, or ``~/.cache/mmkdna``."""
    folder = os.environ.get('MMKDNA_HOME') or '~/.cache/mmkdna'
    return osp.abspath(osp.expanduser(folder))


def mirrors() -> list[str]:
    """Folders and base URLs of ``MMKDNA_ZOO``, separated by commas."""
    listed = os.environ.get('MMKDNA_ZOO', '').split(',')
    return [place.strip() for place in listed if place.strip()]


def obtain(
    file: str, expected: str, size: int = 0, locations: tuple[str, ...] = ()
) -> str:
    """The path of a file that has the right hash.

    Looks in the cache, then on the mirrors, then at the file's own
    locations. A file on this machine is used where it is; one from the web
    goes to the cache.

    Args:
        file: Its name.
        expected: SHA-256 of the file, or its first digits.
        size: In bytes; 0 if it is not known.
        locations: Paths and URLs, after the mirrors.

    Raises:
        BadInput: If no location has it (the error lists them), or the cache
            cannot be written.
    """
    cached = osp.join(home(), file)
    if osp.isdir(cached):
        raise BadInput(
            f'{cached} is a folder, expected a file of the cache: remove it'
        )
    tried = {}
    mirrored = [f'{place.rstrip("/")}/{file}' for place in mirrors()]
    for place in (cached, *mirrored, *locations):
        if is_url(place):
            with locked(cached):
                # Another process may have downloaded it meanwhile.
                if _is_whole(cached, expected):
                    return cached
                try:
                    print_log(f'{file} is fetched from {place}', 'current')
                    fetch(place, cached, expected, size)
                    return cached
                except Unavailable as error:
                    tried[place] = str(error)
        elif _is_whole(place, expected):
            return osp.abspath(place)
        elif osp.exists(place):
            tried[place] = 'another SHA-256, so a damaged or another file'
        elif place != cached:
            tried[place] = 'not there'
    tries = ''.join(f'\n  {place}: {why}' for place, why in tried.items())
    length = f'{size / 1e6:.1f} MB, ' if size else ''
    raise BadInput(
        f'{file} was not found:{tries or " no location is known"}\nPut the '
        f'file ({length}SHA-256 {expected}) into {home()} by hand, or name a '
        'folder or a base URL that has it in MMKDNA_ZOO'
    )


def _is_whole(path: str, expected: str) -> bool:
    return osp.isfile(path) and sha256(path).startswith(expected)


@contextmanager
def locked(path: str) -> Iterator[None]:
    """Let one process at a time write this file of the cache.

    Raises:
        BadInput: If the cache cannot be written.
    """
    folder = osp.dirname(path)
    lock = FileLock(f'{path}.lock')
    try:
        os.makedirs(folder, exist_ok=True)
        try:
            held = lock.acquire(timeout=0)
        except Timeout:
            print_log(f'{path}: waits for another process', 'current')
            held = lock.acquire()
    except OSError as error:
        raise BadInput(
            f'the cache {folder} cannot be written: {error.strerror}; set '
            'MMKDNA_HOME to a folder that can'
        ) from None
    with held:
        yield
