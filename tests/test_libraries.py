"""One tools/train.py, test.py and infer.py for all three libraries."""

import sys

import cv2
import pytest
from helpers import ROOT, run

pytestmark = pytest.mark.slow

FEW = [
    'train_dataloader.dataset.indices=32',
    'val_dataloader.dataset.indices=8',
    'test_dataloader.dataset.indices=8',
]
EPOCH = ['train_cfg.max_epochs=1', 'param_scheduler.0.end=4']
ITERATIONS = [
    'train_cfg.max_iters=4',
    'train_cfg.val_interval=4',
    'param_scheduler.0.end=2',
    'default_hooks.checkpoint.interval=4',
    'model.backbone.init_cfg=None',
]


@pytest.fixture(scope='module')
def cwd(tmp_path_factory):
    """One folder, so that the scenes are composed once."""
    return tmp_path_factory.mktemp('libraries')


@pytest.mark.parametrize(
    ('name', 'options', 'metric', 'image'),
    [
        ('kdna_retinanet_r18', EPOCH, 'coco/bbox_mAP', 'images/val/000000'),
        ('kdna_upernet_r18', ITERATIONS, 'mIoU', 'images/val/000000'),
        ('kdna_r18', EPOCH, 'accuracy/top1', None),
    ],
)
def test_a_run_is_trained_scored_and_drawn(cwd, name, options, metric, image):
    config = ROOT / f'configs/digits/{name}.py'
    out = run(
        [
            *(sys.executable, ROOT / 'tools/train.py', config),
            *('--work-dir', name, '--cfg-options', *FEW, *options),
        ],
        cwd,
    )
    assert 'KernelDNA: ' in out
    assert metric in out
    checkpoint = (cwd / name / 'last_checkpoint').read_text()

    out = run(
        [
            *(sys.executable, ROOT / 'tools/test.py', config, checkpoint),
            *('--work-dir', f'{name}_test', '--cfg-options', *FEW),
        ],
        cwd,
    )
    assert metric in out

    pattern = f'{image}.png' if image else 'crops/val/7/*.png'
    path = next((cwd / 'data/digits').glob(pattern))
    run(
        [
            *(sys.executable, ROOT / 'tools/infer.py', config, checkpoint),
            *(path, '--out-dir', f'{name}_drawn'),
        ],
        cwd,
    )
    (folder,) = (cwd / f'{name}_drawn').iterdir()
    assert folder.name == 'vis'
    (picture,) = folder.iterdir()
    assert picture.stem == path.stem
    assert cv2.imread(str(picture)) is not None
