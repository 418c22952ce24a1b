"""The zoo's plain classifier is adopted by config alone, and analysed."""

import copy
import json
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmpretrain.utils import register_all_modules
from test_demo import run

import mmkdna
from mmkdna.adoption import residual_names
from mmkdna.checkpoint import read_weights
from mmkdna.datasets.digit_scenes import write_scenes
from mmkdna.measure import build_model
from mmkdna.zoo import local_path

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
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


@pytest.fixture
def crops(cwd, monkeypatch):
    """Some batches of the validation crops."""
    monkeypatch.chdir(cwd)
    register_all_modules(init_default_scope=False)
    init_default_scope('mmpretrain')
    cfg = Config.fromfile(PLAIN)
    loader = Runner.build_dataloader(cfg.val_dataloader)
    return [batch for batch, _ in zip(loader, range(3), strict=False)]


def scores(model, batches):
    model.eval()
    with torch.no_grad():
        return torch.cat(
            [
                model(**model.data_preprocessor(copy.deepcopy(batch)))
                for batch in batches
            ]
        )


@pytest.mark.parametrize('norm_eval', [True, False])
@pytest.mark.parametrize('align', [True, False])
def test_the_run_starts_as_the_plain_network(cwd, crops, align, norm_eval):
    cfg = Config.fromfile(ADOPTED)
    plain = build_model(Config.fromfile(PLAIN))
    plain.load_state_dict(read_weights(local_path(cfg.load_from)))
    cfg.model.backbone.conv_cfg.align = align
    cfg.model.backbone.norm_eval = norm_eval
    cfg.work_dir = str(cwd / f'start_{align}_{norm_eval}')
    cfg.experiment_name = f'start_{align}_{norm_eval}'
    runner = Runner.from_cfg(cfg)
    # What `train` does before its loop.
    runner.call_hook('before_run')
    runner._init_model_weights()
    runner.load_or_resume()
    assert len(residual_names(runner.model)) == 4
    expected = scores(plain, crops)
    difference = scores(runner.model, crops) - expected
    assert difference.norm() < 1e-5 * expected.norm()


def test_alignment_lowers_the_error_of_the_fit(crops):
    cfg = Config.fromfile(ADOPTED)
    errors = []
    for align in (False, True):
        cfg.model.backbone.conv_cfg.align = align
        model = build_model(cfg)
        model.load_state_dict(read_weights(local_path(cfg.load_from)))
        fits = [row.fit_error for row in mmkdna.report(model).rows]
        fits = [error for error in fits if error is not None]
        errors.append(sum(fits) / len(fits))
    assert errors[1] < errors[0]


def test_the_run_ends_as_pure_kernel_dna(cwd):
    run(
        [
            *(sys.executable, ROOT / 'tools/train.py', ADOPTED),
            *('--work-dir', 'adopted'),
        ],
        cwd,
    )
    assert last_accuracy(cwd / 'adopted') > 96
    weights = read_weights(str(cwd / 'adopted/epoch_5.pth'))
    model = build_model(Config.fromfile(ADOPTED))
    assert set(weights) == set(model.state_dict())
    model.load_state_dict(weights)


def test_the_recommended_plan_builds(cwd):
    out = run(
        [
            *(sys.executable, ROOT / 'tools/analyze_redundancy.py', PLAIN),
            'mmkdna://r18_digits',
            *('--conv-cfg', 'min_channels=128', '--most', '8'),
            *('--images', 'data/digits/crops/val/3', '--out', 'maps'),
        ],
        cwd,
    )
    assert len(list((cwd / 'maps').glob('*.png'))) == 2
    plan = cwd / 'plan.py'
    plan.write_text(
        f"_base_ = '{PLAIN}'\n"
        "custom_imports = dict(imports=['mmkdna'])\n"
        + out[out.index('model = dict(') :]
    )
    model = build_model(Config.fromfile(plan))
    families = mmkdna.list_families(model)
    assert len(families) == 2
    assert all(len(family.members) == 2 for family in families)
