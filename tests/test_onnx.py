"""ONNX files of models with families, by torch's two exporters."""

import inspect
from pathlib import Path

import mmdet.models  # noqa: F401
import onnxruntime
import pytest
import torch
from helpers import perturb_adapters
from mmengine.registry import MODELS
from pairs import family
from torch import nn

import mmkdna
import mmkdna.backbones

AXES = {0: 'batch', 2: 'height', 3: 'width'}


def runs(path, image):
    """The outputs of a file in ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options)
    return session.run(None, {'image': image.numpy()})


@pytest.mark.parametrize('baked', [False, True])
@pytest.mark.parametrize('training', [False, True])
def test_a_trace_for_onnx_meets_no_function_of_autograd(
    tmp_path, monkeypatch, baked, training
):
    """As mmdeploy exports, which switches off the pass that inlines one."""
    monkeypatch.setattr(
        torch._C,
        '_jit_pass_onnx_autograd_function_process',
        lambda graph: None,
    )
    model = family(padding=1, members=3)
    if baked:
        mmkdna.bake(model)
    mode = torch.onnx.TrainingMode
    path = str(tmp_path / 'model.onnx')
    torch.onnx.export(
        model,
        (torch.randn(1, 8, 6, 6),),
        path,
        dynamo=False,
        training=mode.TRAINING if training else mode.EVAL,
        input_names=['image'],
        output_names=['features'],
        dynamic_axes={'image': AXES, 'features': AXES},
    )
    model.eval()
    for shape in ((1, 8, 6, 6), (3, 8, 9, 7)):
        image = torch.randn(shape)
        (found,) = runs(path, image)
        with torch.no_grad():
            expected = model(image)
        torch.testing.assert_close(
            torch.from_numpy(found), expected, rtol=1e-4, atol=1e-5
        )


BACKBONES = {
    'R-18': (
        dict(type='KDNAResNet', depth=18, out_indices=(0, 1, 2, 3)),
        [64, 128, 256, 512],
    ),
    'R-50': (
        dict(type='KDNAResNet', depth=50, out_indices=(0, 1, 2, 3)),
        [256, 512, 1024, 2048],
    ),
    'MobileNetV2': (
        dict(type='KDNAMobileNetV2', out_indices=(1, 2, 4, 6)),
        [24, 32, 96, 320],
    ),
    'ConvNeXt-T': (
        dict(
            type='KDNAConvNeXt',
            arch='tiny',
            out_indices=(0, 1, 2, 3),
            gap_before_final_norm=False,
        ),
        [96, 192, 384, 768],
    ),
}


class Pyramid(nn.Module):
    """A backbone and a neck, both with families."""

    def __init__(self, backbone, channels):
        super().__init__()
        self.backbone = MODELS.build(backbone)
        neck = dict(
            type='mmdet.FPN',
            in_channels=channels,
            out_channels=256,
            num_outs=5,
            conv_cfg=dict(type='KernelDNA'),
        )
        self.neck = MODELS.build(neck)

    def forward(self, x):
        return self.neck(self.backbone(x))


@pytest.mark.slow
@pytest.mark.parametrize('dynamo', [False, True])
@pytest.mark.parametrize('name', BACKBONES)
def test_a_backbone_with_its_neck_serves_any_batch_and_size(
    name, dynamo, tmp_path
):
    known = inspect.signature(torch.onnx.export).parameters
    if dynamo and 'dynamic_shapes' not in known:
        pytest.skip('dynamic shapes: not by this torch')
    model = Pyramid(*BACKBONES[name])
    assert all(
        any(family.children for family in mmkdna.list_families(part))
        for part in (model.backbone, model.neck)
    )
    perturb_adapters(model)
    model.train()
    with torch.no_grad():
        model(torch.randn(2, 3, 64, 64))
    model.eval()
    path = str(tmp_path / 'model.onnx')
    outputs = [f'level{i}' for i in range(5)]
    if dynamo:
        free = torch.export.Dim.DYNAMIC
        how = dict(
            dynamic_shapes=(dict.fromkeys(AXES, free),), external_data=False
        )
    else:
        how = dict(dynamic_axes=dict.fromkeys(['image', *outputs], AXES))
    torch.onnx.export(
        model,
        (torch.randn(2, 3, 64, 96),),
        path,
        dynamo=dynamo,
        input_names=['image'],
        output_names=outputs,
        **how,
    )
    for shape in ((1, 3, 96, 64), (3, 3, 160, 128)):
        image = torch.randn(shape)
        with torch.no_grad():
            expected = model(image)
        for found, level in zip(runs(path, image), expected, strict=True):
            error = (torch.from_numpy(found) - level).abs().max()
            assert error < 1e-5 * level.abs().max()
    own = 4 * sum(p.numel() for p in model.parameters())
    size = Path(path).stat().st_size
    print(f'\n{name}, {dynamo=}: {size / 1e6:.1f} of {own / 1e6:.1f} MB')
    if dynamo:
        # Each kernel once, as in the model.
        assert size <= 1.03 * own
