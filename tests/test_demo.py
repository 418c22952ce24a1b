"""What the README promises, run as a user would: these take minutes."""

import json
import pickle
import re
import shutil
import sys

import pytest
from helpers import ROOT, run

pytestmark = pytest.mark.slow

DIGITS = ROOT / 'configs/digits/kdna_maskrcnn_r18.py'
# Some dozen steps of the demo, then 8 scenes to score.
SHORT = [
    'train_dataloader.dataset.indices=160',
    'val_dataloader.dataset.indices=8',
    'test_dataloader.dataset.indices=8',
    'train_cfg.max_epochs=1',
    'param_scheduler.0.end=20',
    'default_hooks.logger.interval=1',
]


def losses(work_dir):
    (log,) = work_dir.glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [line['loss'] for line in lines if 'loss' in line]


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A short training of the demo, in a folder of its own."""
    cwd = tmp_path_factory.mktemp('demo')
    train = [sys.executable, ROOT / 'tools/train.py', DIGITS]
    out = run([*train, '--work-dir', 'run', '--cfg-options', *SHORT], cwd)
    return cwd, out


def test_loss_falls_within_some_dozen_steps(trained):
    cwd, out = trained
    assert 'KernelDNA: 3 families, 4 children' in out
    values = losses(cwd / 'run')
    assert len(values) == 40
    assert sum(values[-10:]) < 0.9 * sum(values[:10])


def test_checkpoint_is_scored_dumped_and_drawn(trained):
    cwd, _ = trained
    test = [sys.executable, ROOT / 'tools/test.py', DIGITS, 'run/epoch_1.pth']
    options = ['--out', 'out.pkl', '--show-dir', 'drawn', '--work-dir', 'test']
    out = run([*test, *options, '--cfg-options', *SHORT], cwd)
    assert 'coco/bbox_mAP' in out
    assert 'coco/segm_mAP' in out
    assert len(pickle.loads((cwd / 'out.pkl').read_bytes())) == 8
    assert len(list(cwd.glob('test/*/drawn/*.png'))) == 8


def test_run_is_shown(trained):
    cwd, _ = trained
    show = [sys.executable, ROOT / 'tools/show_run.py', 'run']
    out = run([*show, '--scenes', '3', '--threshold', '0.01'], cwd)
    assert 'box AP50' in out
    for name in ('predictions.png', 'curves.png'):
        assert name in out.splitlines()[-1]
        picture = (cwd / 'run' / name).read_bytes()
        assert picture.startswith(b'\x89PNG')


def test_training_resumes_where_it_stopped(trained):
    cwd, _ = trained
    train = [sys.executable, ROOT / 'tools/train.py', DIGITS]
    longer = [*SHORT, 'train_cfg.max_epochs=2', 'param_scheduler.1.end=2']
    shutil.copytree(cwd / 'run', cwd / 'longer')  # it replaces checkpoints
    options = ['--work-dir', 'longer', '--resume', '--cfg-options', *longer]
    out = run([*train, *options, 'train_dataloader.dataset.indices=32'], cwd)
    assert 'resumed epoch: 1, iter: 40' in out
    assert 'Epoch(train) [1]' not in out
    assert 'Epoch(train) [2]' in out


def test_two_processes_train(trained):
    cwd, _ = trained
    out = run(
        [
            *(ROOT / 'tools/dist_train.sh', DIGITS, 2),
            *('--work-dir', 'two', '--cfg-options', *SHORT),
            'train_dataloader.dataset.indices=32',
        ],
        cwd,
    )
    assert 'Epoch(train) [1][4/4]' in out
    values = losses(cwd / 'two')
    assert len(values) == 4
    assert all(value > 0 for value in values)


def test_two_processes_score_as_one_does(trained):
    cwd, _ = trained
    command = [ROOT / 'tools/dist_test.sh', DIGITS, 'run/epoch_1.pth']
    scores = [
        re.findall(
            r'(?:bbox|segm)_mAP_copypaste: (.*)',
            run(
                [
                    *command,
                    n,
                    '--work-dir',
                    f'of_{n}',
                    '--cfg-options',
                    *SHORT,
                ],
                cwd,
            ),
        )
        for n in (1, 2)
    ]
    assert len(scores[0]) == 2
    assert scores[0] == scores[1]
