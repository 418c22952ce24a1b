"""The zoo's plain classifier is adopted by config alone, and trained."""

import json
import sys

import pytest
from helpers import ROOT, run
from mmengine.config import Config
from mmengine.runner import Runner
from mmpretrain.utils import register_all_modules

import mmkdna
from mmkdna.checkpoint import read_weights
from mmkdna.datasets.digit_scenes import write_scenes
from mmkdna.measure.configs import build_model
from mmkdna.zoo import local_path

pytestmark = pytest.mark.slow

PLAIN = ROOT / 'configs/digits/plain/r18.py'
ADOPTED = ROOT / 'configs/digits/adopted_r18.py'


def last_accuracy(work_dir):
    scalars = next(work_dir.glob('*/vis_data/scalars.json')).read_text()
    lines = [json.loads(line) for line in scalars.splitlines()]
    return [s['accuracy/top1'] for s in lines if 'accuracy/top1' in s][-1]


@pytest.fixture(scope='module')
def cwd(tmp_path_factory):
    """A folder with the scenes."""
    cwd = tmp_path_factory.mktemp('adoption')
    spec = Config.fromfile(PLAIN).digit_scenes
    write_scenes(cwd / spec.pop('root'), **spec)
    return cwd


def test_the_run_starts_with_the_plain_networks_weights(cwd, monkeypatch):
    monkeypatch.chdir(cwd)
    register_all_modules(init_default_scope=False)
    cfg = Config.fromfile(ADOPTED)
    cfg.work_dir = str(cwd / 'start')
    runner = Runner.from_cfg(cfg)
    # What `train` does before its loop.
    runner.call_hook('before_run')
    runner._init_model_weights()
    runner.load_or_resume()
    plain = read_weights(local_path(cfg.load_from))
    ours = runner.model.state_dict()
    assert any(key not in plain for key in ours)
    for key in set(ours) & set(plain):
        assert ours[key].equal(plain[key].to(ours[key])), key
    for family in mmkdna.list_families(runner.model):
        for name, child in family.children:
            assert child.kernel().equal(family.parent.module.weight), name
            assert child.adapter.routing.is_open(), name


def test_the_run_learns_again_and_ends_as_kernel_dna(cwd):
    run(
        [
            *(sys.executable, ROOT / 'tools/train.py', ADOPTED),
            *('--work-dir', 'adopted'),
        ],
        cwd,
    )
    assert last_accuracy(cwd / 'adopted') > 95
    weights = read_weights(str(cwd / 'adopted/epoch_5.pth'))
    model = build_model(Config.fromfile(ADOPTED))
    assert set(weights) == set(model.state_dict())
    model.load_state_dict(weights)
