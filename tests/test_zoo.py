"""Names of the zoo, wherever mmengine loads; the command line, the page."""

import os
import subprocess
import sys

import pytest
import torch
from mmengine.runner import CheckpointLoader
from zoo_server import BODY, FILE, SHA, entry

from mmkdna.errors import BadInput
from mmkdna.zoo import resolve
from mmkdna.zoo.__main__ import main
from mmkdna.zoo.index import read_index
from mmkdna.zoo.table import BEGIN, END, rewritten


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
    with pytest.raises(BadInput, match='SHA-256 differs from the index'):
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
