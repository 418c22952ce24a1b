"""Multiply-adds are counted as published, or refused."""

import pytest
from helpers import ROOT, SIZE, small
from mmengine.config import Config

from mmkdna.errors import BadInput
from mmkdna.measure.complexity import multiply_adds
from mmkdna.measure.configs import build_model

CONFIGS = ROOT / 'configs'


def test_multiply_adds_of_resnet_18_are_the_published():
    """1.82 G at 224 x 224 (torchvision's table of resnet18: 1.81 GFLOPS)."""
    model = build_model(Config.fromfile(CONFIGS / 'plain/r18_in1k.py'))
    assert multiply_adds(model, (3, 224, 224)) == pytest.approx(
        1.814e9, rel=1e-3
    )


def test_multiply_adds_count_every_proposal():
    cfg = Config.fromfile(CONFIGS / 'digits/plain/maskrcnn_r18.py')
    counts = []
    for proposals in (100, 200):
        cfg.model.test_cfg.rpn.max_per_img = proposals
        counts.append(multiply_adds(build_model(cfg), (3, 160, 160)))
    box_head = 64 * 7 * 7 * 128 + 128 * 128 + 128 * (11 + 40)
    assert counts[1] - counts[0] == 100 * box_head


def test_what_cannot_be_counted_says_so():
    cfg = Config.fromfile(CONFIGS / 'kdna_dino_r50.py')
    with pytest.raises(BadInput, match='DINO cannot be counted'):
        multiply_adds(build_model(small(cfg)), (3, *SIZE))
