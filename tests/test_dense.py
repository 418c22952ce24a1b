"""experiments/dense.py: what each way is, and its data."""

import json
import sys

import cv2
import numpy as np
import pytest
from helpers import ROOT
from mmengine.config import Config

import mmkdna
from mmkdna.measure.complexity import parameters
from mmkdna.measure.configs import build_model

sys.path.insert(0, str(ROOT / 'experiments'))

import dense


def built(task, way, folder):
    task = dense.TASKS[task]
    return build_model(dense._config(task, dense.options(task, way, folder)))


@pytest.mark.parametrize(
    'task', [n for n, t in dense.TASKS.items() if 'narrowed' in t.ways]
)
def test_narrowed_has_the_parameters_of_kernel_dna(task, tmp_path):
    plain = parameters(built(task, 'plain', tmp_path))
    ours = built(task, 'everywhere', tmp_path)
    narrow = parameters(built(task, 'narrowed', tmp_path))
    assert 0.7 < parameters(ours) / plain < 0.9
    assert narrow / parameters(ours) == pytest.approx(1, abs=0.06)
    heads = built(task, 'heads', tmp_path)
    assert parameters(ours) < parameters(heads) < plain
    names = [n for f in mmkdna.list_families(heads) for n, _ in f.members]
    assert names
    assert not any(name.startswith('backbone') for name in names)


def test_pretrained_ways_take_plains_backbone(tmp_path):
    task = dense.TASKS['camvid']
    changed = dense.options(task, 'pretrained_heads', tmp_path)
    cfg = dense._config(task, changed)
    init_cfg = cfg.model.backbone.init_cfg
    assert init_cfg.checkpoint == str(tmp_path / 'plain-0.safetensors')
    assert cfg.model.decode_head.conv_cfg.type == 'KernelDNA'
    assert 'conv_cfg' not in cfg.model.backbone


def test_the_plan_has_the_families_that_it_lists(tmp_path):
    planned = built('digits', 'planned', tmp_path)
    assert [
        [*(name for name, _ in family.children), family.parent.name]
        for family in mmkdna.list_families(planned)
    ] == dense.PLAN
    plain, rule = (
        parameters(built('digits', way, tmp_path))
        for way in ('plain', 'everywhere')
    )
    assert parameters(planned) < rule < plain


@pytest.mark.parametrize(
    ('way', 'families', 'more'),
    [
        ('first', ['1 <- 0', '3 <- 2'], 0),
        ('coarse', ['1, 2 <- 3'], 0),
        ('coarse_first', ['2, 3 <- 1'], 0),
        ('finest', ['3 <- 1'], 34_647),
    ],
)
def test_other_necks_have_the_families_of_their_titles(
    way, families, more, tmp_path
):
    model = built('digits', way, tmp_path)
    necks = [str(f) for f in mmkdna.list_families(model) if 'neck' in str(f)]
    assert [
        name.replace('neck.fpn_convs.', '').replace('.conv', '')
        for name in necks
    ] == families
    rule = parameters(built('digits', 'everywhere', tmp_path))
    assert parameters(model) == rule + more


@pytest.mark.slow
def test_runs_of_one_process_have_scores_of_their_own(tmp_path):
    folders = ['--data', str(tmp_path / 'data'), '--out', str(tmp_path)]
    seeds = ['--only', 'planned', '--seeds', '0', '1']
    dense.main(['digits', *folders, '--steps', '1', *seeds])
    runs = [
        json.loads((tmp_path / f'digits/planned-{seed}.json').read_text())
        for seed in (0, 1)
    ]
    assert all(0 <= run['box AP'] < 100 for run in runs)
    assert not any((tmp_path / 'digits/runs').iterdir())


def test_a_way_of_another_task_is_refused(capsys):
    with pytest.raises(SystemExit):
        dense.main(['digits', '--show', '--only', 'heads'])
    told = capsys.readouterr().err
    assert (
        'digits has plain, everywhere, first, coarse_first, coarse, finest, '
        'planned' in told
    )


def test_scenes_are_unpacked_once_and_void_is_ignored(tmp_path):
    image = np.full((4, 6, 3), 200, np.uint8)
    jpeg = cv2.imencode('.jpg', image)[1]
    labels = np.array([[[0, 11, 3]]], np.uint8)
    offsets = np.array([0, len(jpeg)])
    archives = [
        tmp_path / f'camvid_{split}.npz' for split in ('train', 'test')
    ]
    for archive in archives:
        np.savez(archive, jpeg=jpeg, offsets=offsets, labels=labels)
    dense.unpack(tmp_path, tmp_path / 'data')
    found = cv2.imread(
        str(tmp_path / 'data/labels/test/0000.png'), cv2.IMREAD_UNCHANGED
    )
    assert found.tolist() == [[0, 255, 3]]
    assert (tmp_path / 'data/images/test/0000.png').exists()
    for archive in archives:
        archive.unlink()
    dense.unpack(tmp_path, tmp_path / 'data')


def test_a_config_is_as_long_as_asked(tmp_path):
    cfg = Config.fromfile(dense.CONFIGS / dense.TASKS['nuclei'].config)
    dense.set_length(cfg, 70)
    assert cfg.train_cfg.max_iters == cfg.train_cfg.val_interval == 70
    cosine = cfg.param_scheduler[-1]
    assert (cosine.T_max, cosine.end) == (70, 70)
