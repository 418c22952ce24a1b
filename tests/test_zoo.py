"""The zoo: names, files that are what they should be, a real server."""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from mmengine.runner import CheckpointLoader
from safetensors.torch import save
from zoo_server import ZooServer

from mmkdna.errors import BadInput
from mmkdna.zoo import download, resolve
from mmkdna.zoo.__main__ import main
from mmkdna.zoo.index import read_index
from mmkdna.zoo.store import obtain
from mmkdna.zoo.table import BEGIN, END, rewritten

ROOT = Path(__file__).parent.parent

BODY = save({'weight': torch.arange(200_000.0)}, {'format': 'pt'})
SIZE = len(BODY)
SHA = hashlib.sha256(BODY).hexdigest()
FILE = f'thing-{SHA[:8]}.safetensors'


@pytest.fixture
def server():
    server = ZooServer({FILE: BODY})
    yield server
    server.close()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, no mirrors, no patience."""
    folder = tmp_path / 'cache'
    monkeypatch.setenv('MMKDNA_HOME', str(folder))
    monkeypatch.delenv('MMKDNA_ZOO', raising=False)
    monkeypatch.setattr(download, 'TIMEOUT', (2, 0.5))
    monkeypatch.setattr(download, 'BACK_OFF', 0.01)
    return folder


@pytest.fixture
def index(tmp_path, monkeypatch):
    """Write an index of these entries, the one that is used from here on."""
    root = tmp_path / 'index'

    def index(*models, text=None):
        (root / 'configs').mkdir(parents=True, exist_ok=True)
        (root / 'model-index.yml').write_text('Import: [configs/a.yml]\n')
        (root / 'configs/a.yml').write_text(
            text or yaml.safe_dump({'Models': models})
        )
        monkeypatch.setattr('mmkdna.zoo.index.default_root', lambda: str(root))
        return root

    return index


def entry(name='thing', weights=f'weights/{FILE}', **metadata):
    metadata = {'SHA-256': SHA, 'Size (bytes)': SIZE, **metadata}
    return {
        'Name': name,
        'Config': 'configs/thing.py',
        'Metadata': metadata,
        'Weights': weights,
    }


def get(server, *ways, size=SIZE):
    locations = tuple(f'{server.url}/{way}/{FILE}' for way in ways)
    return Path(obtain(FILE, SHA, size, locations))


def nothing_but_locks(folder):
    return all(path.suffix == '.lock' for path in folder.rglob('*'))


@pytest.mark.parametrize(
    ('way', 'times', 'resumed'),
    [
        ('ok', 1, False),
        ('busy', 3, False),
        ('moved', 1, False),
        ('truncated', 2, True),
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


@pytest.mark.parametrize('way', ['ok', 'noranges', 'broken'])
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
        ('short', 'it sent '),
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

    monkeypatch.setattr(download, '_append', full)
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
download.BACK_OFF = 0.01

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


def test_a_name_loads_wherever_mmengine_loads(server, cache, index):
    index(entry(weights=f'{server.url}/ok/{FILE}'))
    loaded = CheckpointLoader.load_checkpoint('mmkdna://thing')
    assert loaded['state_dict']['weight'].equal(torch.arange(200_000.0))
    assert resolve('thing') == resolve('mmkdna://thing') == str(cache / FILE)


def test_files_of_the_repository_need_no_cache(cache, index):
    root = index(entry())
    (root / 'weights').mkdir()
    (root / 'weights' / FILE).write_bytes(BODY)
    assert resolve('thing') == str(root / 'weights' / FILE)
    assert not cache.exists()


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('thin', 'no such entry, but thing; python -m'),
        ('quite_another', 'no such entry; python -m mmkdna.zoo list'),
        ('../thing', 'expected a name of letters'),
        ('a/thing', 'expected a name of letters'),
        ('..', 'expected a name of letters'),
        ('', 'expected a name of letters'),
        ('recipe', 'is a recipe, not trained yet: python tools/train.py'),
    ],
)
def test_names_that_are_none(cache, index, name, message):
    recipe = {'Name': 'recipe', 'Config': 'configs/recipe.py'}
    index(entry(), recipe)
    with pytest.raises(BadInput, match=message):
        CheckpointLoader.load_checkpoint(f'mmkdna://{name}')
    assert not cache.exists()


@pytest.mark.parametrize(
    ('models', 'message'),
    [
        ('Models: [', 'a.yml cannot be read: .*line 1'),
        ('- 1', 'expected a mapping'),
        ('Models: 3', 'expected Models, a list'),
        ('Models: [3]', r'Models\[0\]: expected a mapping, got 3'),
        ([{'Name': '../x', 'Config': 'a.py'}], r"Name '\.\./x': expected"),
        ([{'Name': 'x'}], 'Config None: expected a str'),
        ([{'Name': 'x', 'Config': '../a.py'}], 'expected a path below'),
        ([entry(), entry()], 'thing is there twice'),
        ([entry(**{'SHA-256': 'abc'})], 'expected Metadata with SHA-256'),
        ([entry(weights='../x.safetensors')], 'a URL, or a path below'),
        ([entry(weights='/x.safetensors')], 'a URL, or a path below'),
        ([entry(weights='http://x/')], 'a URL, or a path below'),
        ([{**entry(), 'Results': ['a']}], r"Results\[0\] 'a': expected a"),
        (
            [{**entry(), 'Results': [{'Metrics': 3}]}],
            'with Metrics, a mapping',
        ),
        ([entry(Parameters='many')], "Metadata.Parameters 'many': expected a"),
        ([entry(**{'Multiply-adds': True})], 'Multiply-adds True: expected a'),
    ],
)
def test_an_index_that_is_not_whole_is_named(index, models, message):
    if isinstance(models, str):
        index(text=models)
    else:
        index(*models)
    with pytest.raises(BadInput, match=message):
        read_index()


def test_the_command_line(server, cache, index, capsys):
    recipe = {'Name': 'recipe', 'Config': 'configs/recipe.py'}
    index(
        {
            **entry(weights=f'{server.url}/ok/{FILE}'),
            'Results': [{'Metrics': {'box AP': 72.8}}],
        },
        recipe,
    )
    main(['list'])
    out = capsys.readouterr().out
    assert 'not trained yet' in out
    assert 'box AP 72.8' in out
    main(['show', 'thing'])
    assert f'SHA-256: {SHA}' in capsys.readouterr().out
    main(['where', 'thing'])
    assert 'thing: not on this machine yet' in capsys.readouterr().out
    main(['download', 'thing', 'mmkdna://thing'])
    assert capsys.readouterr().out.split() == [str(cache / FILE)] * 2
    main(['where', 'thing'])
    assert f'thing: {cache / FILE}' in capsys.readouterr().out
    main(['verify'])
    assert f'{cache / FILE}: whole' in capsys.readouterr().out
    (cache / FILE).write_bytes(BODY[:-1])
    with pytest.raises(BadInput, match='SHA-256 is not that of the index'):
        main(['verify'])


RANKS = """
import sys
import torch.distributed as dist
import mmkdna.zoo.index
from mmkdna.cli import leave_job
from mmkdna.errors import BadInput
from mmkdna.zoo import resolve

mmkdna.zoo.index.default_root = lambda: sys.argv[1]
dist.init_process_group('gloo')
print(resolve('thing'))
try:
    resolve('thin')
except BadInput as error:
    print(error)
leave_job()
"""


def test_the_ranks_of_a_job_fetch_once(server, cache, index):
    root = index(entry(weights=f'{server.url}/ok/{FILE}'))
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone']
    script = root / 'ranks.py'
    script.write_text(RANKS)
    done = subprocess.run(
        [*command, '--nproc_per_node=2', str(script), str(root)],
        env={**os.environ, 'MMKDNA_HOME': str(cache)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count(str(cache / FILE)) == 2
    # An error is everybody's, and nobody waits for the others.
    assert done.stdout.count('no such entry, but thing') == 2
    assert server.asked('ok') == [None]


def test_the_tables_of_a_page(cache, index, tmp_path):
    trained = {
        **entry(Parameters=1_234_567),
        'Results': [{'Dataset': 'digits', 'Metrics': {'box AP': 72.8}}],
    }
    made = {'Name': 'made', 'Config': 'configs/made.py'}
    made['Metadata'] = {'Derived From': 'torchvision://resnet18'}
    index(trained, made, {'Name': 'recipe', 'Config': 'configs/recipe.py'})
    page = tmp_path / 'page.md'
    page.write_text(f'# Ours\n{BEGIN}\nold\n{END}\nlast\n')
    main(['table', str(page)])
    text = page.read_text()
    assert text.startswith('# Ours\n')
    assert text.endswith(f'{END}\nlast\n')
    assert 'old' not in text
    assert '| 1.23 |  | box AP 72.8 | digits | 0.8 |' in text
    assert '| `made` | `torchvision://resnet18` |' in text
    assert text.index('not trained yet') < text.index('`recipe`')
    with pytest.raises(BadInput, match='expected <!-- from the index -->'):
        rewritten('nothing', read_index())
