"""Names of the zoo load wherever mmengine loads."""

import os
import subprocess
import sys

import pytest
import requests
import torch
from mmengine.runner import CheckpointLoader
from safetensors.torch import save_file
from zoo_server import BODY, FILE, entry

from mmkdna.errors import BadInput
from mmkdna.zoo import resolve


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
def test_a_name_without_a_file_says_what_it_is(cache, index, name, message):
    recipe = {'Name': 'recipe', 'Config': 'configs/recipe.py'}
    index(entry(), recipe)
    with pytest.raises(BadInput, match=message):
        CheckpointLoader.load_checkpoint(f'mmkdna://{name}')
    assert not cache.exists()


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


def test_a_safetensors_file_loads_by_its_path(tmp_path):
    path = tmp_path / 'weights.safetensors'
    notes = {'dataset_meta': '{"classes": ["a"]}'}
    save_file({'a': torch.ones(2)}, path, notes)
    loaded = CheckpointLoader.load_checkpoint(str(path))
    assert loaded['state_dict']['a'].equal(torch.ones(2))
    assert loaded['meta']['dataset_meta'] == {'classes': ['a']}
    # An address of the web that ends so is not a file.
    with pytest.raises((requests.RequestException, OSError)):
        CheckpointLoader.load_checkpoint('http://127.0.0.1:9/a.safetensors')
