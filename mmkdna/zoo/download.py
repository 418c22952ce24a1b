"""Download a file, resume where it broke off, and check its hash."""

import os
import os.path as osp
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from rich.console import Console
from rich.progress import DownloadColumn, Progress, TransferSpeedColumn
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

from ..errors import BadInput
from ..files import sha256

ATTEMPTS = 5
"""Requests in a row without a new byte, after which a download fails."""
TIMEOUT = (10.0, 60.0)
"""Seconds to connect, and to wait for the next bytes."""
BACK_OFF = 0.5
"""Seconds before a request is repeated; they double each time."""
CHUNK = 1 << 16
LARGEST = 4 << 30
"""Bytes that a file may have whose size nobody says."""


class Unavailable(Exception):
    """A location cannot give the file; another one may have it."""


def fetch(url: str, path: str, expected: str, size: int = 0) -> None:
    """Download a file, and check its hash.

    The bytes go to ``path + '.part'`` first. If the server or a proxy ends a
    body early, the next request asks for the rest; so does a later call. A
    server without range requests sends the whole file again.

    Args:
        url: Address of the file; redirects are followed, but not from https
            to http, nor to another scheme.
        path: Path for the file; the caller holds its lock.
        expected: SHA-256 of the file, or its first digits.
        size: In bytes, and no more are taken; 0 if it is not known.

    Raises:
        Unavailable: If the server cannot be reached or answers with an
            error, if the hash is another one, or if ``ATTEMPTS`` requests in
            a row bring no new byte.
        BadInput: If the disk is full.
    """
    part = f'{path}.part'
    # Never write through a link; a part that is too long is another file's.
    if osp.islink(part) or 0 < size < _length(part):
        os.unlink(part)
    with _session(url) as session:
        # Several requests may have got parts of different files: try again.
        for _ in range(2):
            several = _download(session, url, part, size)
            found = sha256(part)
            if found.startswith(expected):
                os.replace(part, path)
                return
            os.unlink(part)
            if not several:
                break
    raise Unavailable(
        f'its SHA-256 is {found[:12]}..., expected {expected[:12]}...'
    )


def _session(url: str) -> requests.Session:
    """A session that is as patient as said, and asks by known schemes only.

    A redirect to another scheme, or from https to http, finds no adapter.
    """
    retry = Retry(
        total=ATTEMPTS,
        connect=2,
        backoff_factor=BACK_OFF,
        status_forcelist=(429, 500, 502, 503, 504),
        raise_on_status=False,
    )
    session = requests.Session()
    session.adapters.clear()
    session.mount('https://', HTTPAdapter(max_retries=retry))
    if not url.startswith('https://'):
        session.mount('http://', HTTPAdapter(max_retries=retry))
    return session


def _download(
    session: requests.Session, url: str, part: str, size: int
) -> bool:
    """Complete a part, and return whether that took several requests."""
    begun = most = _length(part)
    several, tries = begun > 0, 0
    console = Console(stderr=True)
    progress = Progress(
        *Progress.get_default_columns(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    task = progress.add_task(osp.basename(part), total=size or None)
    show = partial(progress.update, task)
    with progress:
        while not size or begun != size:
            problem = _append(session, url, part, begun, size, show)
            if not problem:
                break
            several = True
            begun = _length(part)
            tries = 0 if begun > most else tries + 1
            most = max(most, begun)
            if tries == ATTEMPTS:
                raise Unavailable(problem)
            time.sleep(BACK_OFF * (2**tries - 1))
    return several


def _append(
    session: requests.Session,
    url: str,
    part: str,
    begun: int,
    size: int,
    show: Callable[..., None],
) -> str:
    """Request the rest of a part; return why it is incomplete, or ''."""
    headers = {'Accept-Encoding': 'identity'}
    if begun:
        headers['Range'] = f'bytes={begun}-'
    try:
        answer = session.get(
            url, headers=headers, stream=True, timeout=TIMEOUT
        )
    except requests.RequestException as error:
        raise Unavailable(_innermost(error)) from None
    with answer:
        status, sent = answer.status_code, answer.headers
        span = sent.get('Content-Range', '').startswith(f'bytes {begun}-')
        if begun and (status == 416 or status == 206 and not span):
            # The part is another file's, or the server has no ranges.
            os.unlink(part)
            return f'HTTP {status}, not the rest of the file'
        if not answer.ok:
            raise Unavailable(f'HTTP {status} {answer.reason}')
        if status != 206:
            begun = 0
        # read1() returns what has arrived. read() waits for a full chunk and
        # loses it if the body breaks off; that of urllib3 1 loses nothing.
        read = getattr(answer.raw, 'read1', answer.raw.read)
        try:
            with open(part, 'ab' if begun else 'wb') as file:
                while chunk := read(CHUNK):
                    file.write(chunk)
                    show(completed=file.tell())
                    if file.tell() > (size or LARGEST):
                        break
        except HTTPError as error:
            return f'its body broke off: {_innermost(error)}'
        except OSError as error:
            Path(part).unlink(missing_ok=True)
            raise BadInput(
                f'{part} cannot be written: {error.strerror}; the file needs '
                f'{size / 1e6:.1f} MB: make room, or set MMKDNA_HOME to a '
                'folder elsewhere'
            ) from None
    end, most = osp.getsize(part), size or LARGEST
    if end > most:
        os.unlink(part)
        said = 'of the index' if size else 'that a file may have'
        raise Unavailable(f'it sends more than the {most} bytes {said}')
    length = sent.get('Content-Length', '')
    total = size or begun + (int(length) if length.isdecimal() else 0)
    return '' if end >= total else f'it sent {end} of {total} bytes'


def _length(part: str) -> int:
    return osp.getsize(part) if osp.exists(part) else 0


def _innermost(error: BaseException) -> str:
    """The message of the first error in a chain of them."""
    while error.__context__ is not None:
        error = error.__context__
    return str(error) or type(error).__name__
