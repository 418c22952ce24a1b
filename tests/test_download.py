"""Files from the web are whole, whatever servers and proxies do."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from zoo_server import BODY, CUT, FILE, SHA, SIZE

from mmkdna.errors import BadInput
from mmkdna.zoo import download
from mmkdna.zoo.store import obtain


@pytest.fixture
def cache(cache, monkeypatch):
    """An empty cache, no mirrors, no patience."""
    monkeypatch.setattr(download, 'TIMEOUT', (2, 0.5))
    monkeypatch.setattr(download, 'BACK_OFF', 0)
    return cache


def get(server, *ways, size=SIZE):
    locations = tuple(f'{server.url}/{way}/{FILE}' for way in ways)
    return Path(obtain(FILE, SHA, size, locations))


def nothing_but_locks(folder):
    return all(path.suffix == '.lock' for path in folder.rglob('*'))


def spans(*starts):
    return [f'bytes={start}-' if start else None for start in starts]


@pytest.mark.parametrize(
    ('way', 'times', 'resumed'),
    [
        ('ok', 1, False),
        ('busy', 3, False),
        ('moved', 1, False),
        ('cutonce', 2, True),
        ('stalled', 2, True),
    ],
)
@pytest.mark.parametrize('size', [SIZE, 0])
def test_a_file_arrives_whole(server, cache, way, times, resumed, size):
    path = get(server, way, size=size)
    assert path == cache / FILE
    assert path.read_bytes() == BODY
    # The second time it is there.
    assert get(server, way) == path
    asked = server.asked(way)
    assert len(asked) == times
    assert any(asked) == resumed
    assert sorted(p.name for p in cache.iterdir()) == [FILE, f'{FILE}.lock']


@pytest.mark.parametrize(
    ('way', 'size'), [('cut', SIZE), ('cut', 0), ('short', SIZE)]
)
def test_every_body_that_breaks_off_is_gone_on_with(server, cache, way, size):
    # More often than ATTEMPTS: each brings something new.
    assert SIZE > CUT * download.ATTEMPTS
    assert get(server, way, size=size).read_bytes() == BODY
    assert server.asked(way) == spans(*range(0, SIZE, CUT))


def test_a_body_of_unknown_length_is_hashed(server, cache):
    with pytest.raises(BadInput, match='/short/.*its SHA-256 is'):
        get(server, 'short', size=0)


@pytest.mark.parametrize(
    ('way', 'why'),
    [
        ('cutnoranges', 'its body broke off: '),
        ('cut416', 'HTTP 416, not the rest of the file'),
        ('stuck', 'its body broke off: '),
    ],
)
@pytest.mark.parametrize('size', [SIZE, 0])
def test_a_server_without_progress_is_given_up(server, cache, way, why, size):
    with pytest.raises(BadInput, match=f'/{way}/{FILE}: {why}'):
        get(server, way, size=size)
    # The first one brought something.
    assert len(server.asked(way)) == 1 + download.ATTEMPTS
    assert not (cache / FILE).exists()


def test_another_location_goes_on_with_the_part(server, cache):
    assert get(server, 'stuck', 'ok').read_bytes() == BODY
    assert server.asked('ok') == spans(CUT)


@pytest.mark.parametrize('way', ['ok', 'noranges', 'norange416', 'otherrange'])
@pytest.mark.parametrize('begun', [BODY[:1000], b'of another file', BODY * 2])
def test_a_part_is_gone_on_with_or_fetched_anew(server, cache, way, begun):
    cache.mkdir()
    (cache / f'{FILE}.part').write_bytes(begun)
    assert get(server, way).read_bytes() == BODY
    first = server.asked(way)[0]
    expected = None if begun == BODY * 2 else f'bytes={len(begun)}-'
    # What is longer than the file cannot be gone on with.
    assert first == expected


@pytest.mark.parametrize(
    ('way', 'why'),
    [
        ('missing', 'HTTP 404 Not Found'),
        ('wrong', 'its SHA-256 is '),
        ('long', f'it sends more than the {SIZE} bytes of the index'),
    ],
)
def test_the_next_location_is_tried(server, cache, way, why):
    with pytest.raises(BadInput) as raised:
        get(server, way)
    message = str(raised.value)
    assert f'{server.url}/{way}/{FILE}: {why}' in message
    assert f'SHA-256 {SHA}) into {cache} by hand' in message
    assert not (cache / FILE).exists()
    assert get(server, way, 'ok').read_bytes() == BODY


def test_no_server_is_said(cache):
    # Port 9 of loopback: nobody listens.
    with pytest.raises(BadInput, match='127.0.0.1:9/x: .*refused'):
        obtain(FILE, SHA, 0, ('http://127.0.0.1:9/x',))
    assert nothing_but_locks(cache)


def test_mirrors_come_first(server, cache, tmp_path, monkeypatch):
    folder = tmp_path / 'mirror'
    folder.mkdir()
    monkeypatch.setenv('MMKDNA_ZOO', f'{folder}, {server.url}/noranges')
    assert get(server, 'ok').parent == cache
    assert server.asked('ok') == []
    (cache / FILE).unlink()
    (folder / FILE).write_bytes(BODY)
    # A folder's file is used where it is.
    assert get(server, 'ok').parent == folder
    (folder / FILE).write_bytes(BODY[:-1])
    assert get(server, 'ok').parent == cache


def test_a_damaged_file_of_the_cache_is_replaced(server, cache):
    cache.mkdir()
    (cache / FILE).write_bytes(b'half')
    with pytest.raises(BadInput, match=f'{FILE}: another SHA-256'):
        get(server)
    assert get(server, 'ok').read_bytes() == BODY


def test_a_full_disk_is_said(server, cache, monkeypatch):
    def full(*args):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(download, 'open', full, raising=False)
    with pytest.raises(BadInput, match='No space left on device'):
        get(server, 'ok')
    assert nothing_but_locks(cache)


def test_a_part_that_is_a_link_is_not_written_through(server, cache, tmp_path):
    cache.mkdir()
    (tmp_path / 'precious').write_text('as it was')
    (cache / f'{FILE}.part').symlink_to(tmp_path / 'precious')
    assert get(server, 'ok').read_bytes() == BODY
    assert (tmp_path / 'precious').read_text() == 'as it was'
    assert not (cache / FILE).is_symlink()


def test_a_folder_in_a_files_place_is_said(server, cache):
    (cache / FILE).mkdir(parents=True)
    with pytest.raises(BadInput, match=f'{FILE} is a folder, expected a file'):
        get(server, 'ok')
    assert not server.requests


def test_a_cache_that_cannot_be_written_is_said(server, cache, monkeypatch):
    monkeypatch.setenv('MMKDNA_HOME', '/proc/mmkdna')
    with pytest.raises(BadInput, match='the cache /proc/mmkdna cannot be wri'):
        get(server, 'ok')


ASK = f"""
import multiprocessing, sys
from mmkdna.zoo import download
from mmkdna.zoo.store import obtain
download.BACK_OFF = 0

def ask(_):
    return obtain({FILE!r}, {SHA!r}, {SIZE}, (sys.argv[1],))

if __name__ == '__main__':
    processes = int(sys.argv[2])
    with multiprocessing.get_context('fork').Pool(processes) as pool:
        print(len(set(pool.map(ask, range(processes), 1))))
"""


def ask(url, processes, cache, **options):
    return subprocess.Popen(
        [sys.executable, '-c', ASK, url, str(processes)],
        env={**os.environ, 'MMKDNA_HOME': str(cache)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )


def test_eight_processes_fetch_once(server, cache):
    asking = ask(f'{server.url}/ok/{FILE}', 8, cache)
    out, _ = asking.communicate()
    assert asking.returncode == 0
    assert out.splitlines()[-1] == '1'
    assert server.asked('ok') == [None]
    assert (cache / FILE).read_bytes() == BODY


def test_a_killed_process_leaves_what_can_be_gone_on_with(server, cache):
    asking = ask(f'{server.url}/stalled/{FILE}', 1, cache)
    assert server.half_sent.wait(60)
    os.killpg(asking.pid, signal.SIGKILL)
    asking.wait()
    assert not (cache / FILE).exists()
    # The lock went with the process.
    assert get(server, 'stalled').read_bytes() == BODY
