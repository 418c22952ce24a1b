"""experiments/compare.py on a handful of images."""

import json
import sys

import cv2
import numpy as np
import pytest
from helpers import ROOT
from matplotlib.image import imread
from mmengine.config import Config

from mmkdna.errors import BadInput

sys.path.insert(0, str(ROOT / 'experiments'))

import compare

CONFIG = f"""
_base_ = '{ROOT}/configs/digits/kdna_r18.py'
digit_scenes = None
train_dataloader = dict(
    batch_size=4, dataset=dict(data_root='images', data_prefix='train'))
val_dataloader = dict(
    batch_size=4, dataset=dict(data_root='images', data_prefix='val'))
test_dataloader = val_dataloader
default_hooks = dict(logger=dict(interval=1))
# As MMDetection's configs call theirs.
visualizer = dict(name='visualizer')
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for split in ('train', 'val'):
        for label in range(10):
            folder = tmp_path / 'images' / split / str(label)
            folder.mkdir(parents=True)
            pixels = rng.integers(0, 256, (48, 48, 3), np.uint8)
            cv2.imwrite(str(folder / '0.png'), pixels)
    path = tmp_path / 'tiny.py'
    path.write_text(CONFIG)
    return str(path)


def runs(folder):
    """How often each run was begun."""
    return {
        str(run.parent.relative_to(folder)): len(
            [d for d in run.parent.iterdir() if d.is_dir()]
        )
        for run in folder.glob('*/*/finished.json')
    }


def test_types_are_compared_and_finished_runs_kept(config, tmp_path):
    arguments = [config, '--epochs', '1', '--rounds', '2', '--batch', '2']
    types = ['--types', 'KernelDNA', 'ODConv,experts=2']
    compare.main([*arguments, *types, '--seeds', '0'])
    out = tmp_path / 'work_dirs/compare/tiny'
    table = (out / 'table.md').read_text().strip().splitlines()
    assert [line.split('|')[1].strip() for line in table[2:]] == [
        'plain',
        'KernelDNA',
        'ODConv,experts=2',
    ]
    first = runs(out)
    assert set(first) == {
        'plain/seed_0',
        'KernelDNA/seed_0',
        'ODConv_experts2/seed_0',
    }
    plain = Config.fromfile(next((out / 'plain/seed_0').glob('*.py')))
    assert 'conv_cfg' not in plain.model.backbone
    assert plain.train_cfg.max_epochs == 1
    assert plain.param_scheduler[1].T_max == 1
    annealed = Config.fromfile(next((out / 'ODConv_experts2').glob('*/*.py')))
    assert annealed.custom_hooks == [dict(type='TemperatureHook', epochs=1)]
    assert not plain.get('custom_hooks')
    # One name would be one logger, if they began in one second.
    assert plain.experiment_name == 'plain_0'
    assert annealed.experiment_name == 'ODConv_experts2_0'
    # Interrupted before it said that it is finished: it goes on.
    (out / 'KernelDNA/seed_0/finished.json').unlink()
    compare.main([*arguments, *types, '--seeds', '0', '1'])
    again = runs(out)
    assert again['plain/seed_0'] == first['plain/seed_0']
    assert again['KernelDNA/seed_0'] == first['KernelDNA/seed_0'] + 1
    assert again['plain/seed_1'] == 1
    results = json.loads((out / 'results.json').read_text())
    assert results['title'] == 'tiny, seeds 0 1, epochs 1, cpu'
    for name, row in results['rows'].items():
        assert len(row['scores']['accuracy']) == 2, name
        assert row['parameters'] > 0
    assert results['rows']['plain']['ratio'] == 1
    assert ' ± ' in (out / 'table.md').read_text()
    assert imread(out / 'comparison.png').std() > 0.01
    # A longer run is another run: the scores of the short are not its own.
    with pytest.raises(BadInput, match='plain/seed_0 holds a run of another'):
        compare.main([config, '--epochs', '2', '--seeds', '0'])


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (
            ['--epochs', '1', '--cfg-options', 'train_cfg.max_epochs=None'],
            'trains by iterations',
        ),
        (['--types', 'Conv'], "there is no conv type 'Conv'"),
    ],
)
def test_what_cannot_be_compared_is_named(config, arguments, message):
    with pytest.raises(BadInput, match=message):
        compare.main([config, *arguments])


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--anneal', '0'], '--anneal 0.0: expected above 0'),
        (['--epochs', '0'], '0: expected a whole number of at least 1'),
        (['--rounds', '1'], '1: expected a whole number of at least 2'),
    ],
)
def test_a_wrong_argument_is_named(capsys, arguments, message):
    with pytest.raises(SystemExit):
        compare.main(['tiny.py', *arguments])
    assert message in capsys.readouterr().err


def test_annealing_takes_its_part_in_the_unit_of_the_run():
    for train_cfg, fraction, expected in (
        (dict(max_epochs=30), 0.1, dict(epochs=3)),
        (dict(max_epochs=8), 0.5, dict(epochs=4)),
        (dict(max_epochs=2), 0.1, dict(epochs=1)),
        (dict(max_iters=500), 0.1, dict(iters=50)),
    ):
        cfg = Config(dict(train_cfg=train_cfg))
        assert compare.annealing(cfg, fraction) == dict(
            type='TemperatureHook', **expected
        )
