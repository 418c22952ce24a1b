"""One file from the web: whole, and what it should be, or not at all."""

import hashlib
import os
import os.path as osp
import sys
import time

import requests
from requests.adapters import HTTPAdapter
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from urllib3.util import Retry

from ..errors import BadInput

ATTEMPTS = 5
"""How often a body that breaks off is gone on with."""
TIMEOUT = (10.0, 60.0)
"""Seconds to connect, and to wait for the next bytes."""
BACK_OFF = 0.5
"""Seconds before the second repetition of a request; they double."""
CHUNK = 1 << 18


class Unavailable(Exception):
    """A location does not give the file; another one may."""


def sha256(path: str) -> str:
    """Of a file's bytes, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def fetch(url: str, path: str, expected: str, size: int = 0) -> None:
    """Download a file to its place.

    The body is written to ``path + '.part'``. Where a part is there already
    it goes on from its end, if the server can; where the whole then has
    another hash, all of it is fetched once more.

    Args:
        url: Where it is; redirects are followed.
        path: Where it goes; the caller holds the lock of that name.
        expected: SHA-256 of the file, or the first digits of it.
        size: Of the file, in bytes; 0 if it is not known.

    Raises:
        Unavailable: If the server is not there, answers with an error, or
            sends something else.
        BadInput: If the disk is full.
    """
    part = f'{path}.part'
    if osp.islink(part):
        # Its target is somebody else's file.
        os.unlink(part)
    with _session() as session:
        resumed = osp.exists(part)
        found = _download(session, url, part, size)
        if resumed and not found.startswith(expected):
            os.unlink(part)
            found = _download(session, url, part, size)
    if not found.startswith(expected):
        os.unlink(part)
        raise Unavailable(
            f'its SHA-256 is {found[:12]}..., expected {expected[:12]}...'
        )
    os.replace(part, path)


def _session() -> requests.Session:
    session = requests.Session()
    retry = Retry(
        total=ATTEMPTS,
        connect=2,
        backoff_factor=BACK_OFF,
        status_forcelist=(429, 500, 502, 503, 504),
        raise_on_status=False,
    )
    for scheme in ('http://', 'https://'):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    return session


def _download(
    session: requests.Session, url: str, part: str, size: int
) -> str:
    """Bring a part to its end; its hash."""
    reason = ''
    for attempt in range(ATTEMPTS):
        time.sleep(BACK_OFF * (2**attempt - 1))
        begun = osp.getsize(part) if osp.exists(part) else 0
        if size and begun >= size:
            break
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
            if answer.status_code == 416 and begun:
                # That of another file, or complete, its size unknown.
                os.unlink(part)
                reason = 'HTTP 416, no such range'
                continue
            if not answer.ok:
                raise Unavailable(f'HTTP {answer.status_code} {answer.reason}')
            try:
                _append(answer, part, begun, size)
            except requests.RequestException as error:
                reason = f'its body broke off: {_innermost(error)}'
                continue
            except OSError as error:
                if osp.exists(part):
                    os.unlink(part)
                raise BadInput(
                    f'{part} cannot be written: {error.strerror}; the file '
                    f'needs {size / 1e6:.1f} MB: make room, or set '
                    'MMKDNA_HOME to a folder elsewhere'
                ) from None
        if osp.getsize(part) >= size:
            break
        reason = f'it sent {osp.getsize(part)} of {size} bytes'
    else:
        raise Unavailable(reason)
    return sha256(part)


def _append(
    answer: requests.Response, part: str, begun: int, size: int
) -> None:
    starts = answer.headers.get('Content-Range', '')
    goes_on = answer.status_code == 206 and starts.startswith(
        f'bytes {begun}-'
    )
    progress = Progress(
        TextColumn('{task.description}'),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )
    with open(part, 'ab' if goes_on else 'wb') as file, progress:
        task = progress.add_task(
            osp.basename(part).removesuffix('.part'),
            total=size or None,
            completed=file.tell(),
        )
        for chunk in answer.iter_content(CHUNK):
            file.write(chunk)
            progress.advance(task, len(chunk))
            if size and file.tell() > size:
                # Another file, of any length: its hash will say so.
                return


def _innermost(error: BaseException) -> str:
    """The sentence at the bottom of what urllib3 wraps."""
    inner: BaseException | None = error
    while inner is not None:
        error = inner
        inner = getattr(error, 'reason', None) or next(
            (arg for arg in error.args if isinstance(arg, BaseException)), None
        )
        if not isinstance(inner, BaseException):
            break
    return str(error)
