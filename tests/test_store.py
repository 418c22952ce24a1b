"""The cache of the zoo: mirrors, damage, and many processes at once."""

import os
import signal
import subprocess
import sys

import pytest
from zoo_server import BODY, FILE, SHA, SIZE, get

from mmkdna.errors import BadInput
from mmkdna.zoo import download


@pytest.fixture
def cache(cache, monkeypatch):
    """An empty cache, no mirrors, no patience."""
    monkeypatch.setattr(download, 'TIMEOUT', (2, 0.5))
    monkeypatch.setattr(download, 'BACK_OFF', 0)
    return cache


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
