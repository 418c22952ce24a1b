"""The trained detectors and segmentor, baked: the same numbers and scores."""

import copy

import pytest
import torch
from helpers import ROOT
from mmcv.cnn import fuse_conv_bn
from mmengine.config import Config
from torch import nn

import mmkdna
from mmkdna.cli import build_runner
from mmkdna.datasets import prepare_data
from mmkdna.layers import KernelDNALayer
from mmkdna.measure.runs import in_percent

pytestmark = pytest.mark.slow

SCENES = 100


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """One folder, so that the scenes are composed once."""
    return tmp_path_factory.mktemp('baked')


@pytest.fixture
def runner(request, folder, monkeypatch):
    """A runner with trained weights, on the first validation scenes."""
    monkeypatch.chdir(folder)
    name = request.param
    cfg = Config.fromfile(ROOT / f'configs/digits/{name}.py')
    cfg.load_from = f'mmkdna://{name}_digits'
    # One folder for all: mmengine's visualizer keeps the first.
    cfg.work_dir = str(folder / 'runs')
    cfg.test_dataloader.dataset.indices = SCENES
    prepare_data(cfg, ['test_dataloader'])
    runner = build_runner(cfg)
    runner.load_or_resume()
    return runner


def tensors(found):
    """All tensors in lists of lists, in their order."""
    if isinstance(found, torch.Tensor):
        return [found]
    return [t for part in found for t in tensors(part)]


@torch.no_grad()
def maps(model, image):
    """What backbone, neck and the heads that need no boxes compute."""
    features = model.extract_feat(image)
    heads = ('rpn_head', 'bbox_head', 'decode_head', 'auxiliary_head')
    found = [getattr(model, h)(features) for h in heads if hasattr(model, h)]
    if hasattr(model, 'roi_head'):
        size = image.shape[-1]
        corners = torch.rand(8, 2, 2).mul(size).sort(1).values.flatten(1)
        boxes = torch.cat([torch.zeros(8, 1), corners], dim=1)
        for kind in ('_bbox_forward', '_mask_forward'):
            results = getattr(model.roi_head, kind)(features, boxes)
            found.append(list(results.values()))
    return tensors([features, found])


def assert_close(model, image, expected, tolerance):
    torch.manual_seed(1)
    for ours, theirs in zip(maps(model, image), expected, strict=True):
        assert (ours - theirs).norm() <= tolerance * theirs.norm()


@pytest.mark.parametrize(
    'runner',
    ['kdna_retinanet_r18', 'kdna_maskrcnn_r18', 'kdna_upernet_r18'],
    indirect=True,
)
def test_baked_and_fused_it_computes_and_scores_the_same(runner):
    scores = in_percent(runner.test())
    model = runner.model.eval()
    image = torch.randn(2, 3, 160, 160)
    torch.manual_seed(1)
    expected = maps(model, image)
    assert len(expected) > 4

    mmkdna.bake(model)
    assert not any(isinstance(m, KernelDNALayer) for m in model.modules())
    assert_close(model, image, expected, 1e-5)
    # 0.001 of an AP or mIoU.
    assert in_percent(runner.test()) == pytest.approx(scores, abs=0.1)

    fused = fuse_conv_bn(copy.deepcopy(model).eval())
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fused.modules())
    assert_close(fused, image, expected, 1e-4)
