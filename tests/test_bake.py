"""Baked models compute the same, by layers that every tool knows."""

import pytest
import torch
from helpers import perturb_adapters
from mmcv.cnn import fuse_conv_bn
from mmengine.registry import MODELS
from mmengine.runner import save_checkpoint
from torch import nn

import mmkdna
import mmkdna.backbones
from mmkdna.checkpoint import read_weights, write_weights
from mmkdna.deploy import GatedConv2d, GatedLinear
from mmkdna.errors import BadInput
from mmkdna.layers import KernelDNALayer

AUTHORS = dict(norm='BN', gate='sigmoid')
BACKBONES = {
    'R-18': dict(type='KDNAResNet', depth=18),
    'R-18 as the authors': dict(
        type='KDNAResNet', depth=18, conv_cfg=dict(type='KernelDNA', **AUTHORS)
    ),
    'R-50': dict(type='KDNAResNet', depth=50),
    'MobileNetV2': dict(type='KDNAMobileNetV2'),
    'ConvNeXt-T': dict(type='KDNAConvNeXt', arch='tiny'),
    'ConvNeXt-T by convolutions': dict(
        type='KDNAConvNeXt', arch='tiny', linear_pw_conv=False
    ),
}


def trained(cfg):
    """A model whose every number has moved, statistics as well."""
    model = MODELS.build(cfg)
    perturb_adapters(model)
    model.train()
    with torch.no_grad():
        model(torch.randn(2, 3, 64, 64))
    model.eval()  # of some backbones, this returns None
    return model


def last(out):
    return out[-1] if isinstance(out, (tuple, list)) else out


@torch.no_grad()
def run(model, x):
    return last(model(x))


def kinds(model):
    return {type(m) for m in model.modules()}


@pytest.fixture
def small(build):
    """Two families, one gate of which is open."""
    model = build(2, 2)
    child = mmkdna.list_families(model)[0].children[0].module
    perturb_adapters(child)
    nn.init.normal_(
        mmkdna.list_families(model)[1].children[0].module.adapter.static.filter
    )
    return model.eval()


@pytest.mark.parametrize('name', BACKBONES)
def test_a_baked_backbone_computes_the_same_and_fuses(name):
    model = trained(BACKBONES[name])
    x = torch.randn(2, 3, 64, 64)
    expected = run(model, x)
    assert mmkdna.bake(model) is model
    assert not any(issubclass(kind, KernelDNALayer) for kind in kinds(model))
    torch.testing.assert_close(run(model, x), expected, rtol=1e-5, atol=1e-5)
    assert kinds(model) & {GatedConv2d, GatedLinear}

    fused = fuse_conv_bn(model)
    left = [
        n for n, m in fused.named_modules() if isinstance(m, nn.BatchNorm2d)
    ]
    assert not left
    torch.testing.assert_close(run(fused, x), expected, rtol=1e-4, atol=1e-4)


def test_the_order_of_layers_fuses_each_norm_into_its_own_conv():
    model = nn.Sequential(
        nn.Conv2d(8, 16, 3, padding=1),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.BatchNorm2d(16),
    )
    mmkdna.convert(model, min_channels=16)
    perturb_adapters(model)
    model(torch.randn(4, 8, 8, 8))
    x = torch.randn(2, 8, 8, 8)
    expected = run(model.eval(), x)
    fused = fuse_conv_bn(mmkdna.bake(model))
    assert nn.BatchNorm2d not in kinds(fused)
    torch.testing.assert_close(run(fused, x), expected, rtol=1e-5, atol=1e-5)


def test_a_gate_of_one_leaves_a_plain_layer(small):
    x = torch.randn(2, 16, 8, 8)
    expected = run(small, x)
    gated, plain = (f.children[0].module for f in mmkdna.list_families(small))
    mmkdna.bake(small)
    assert type(gated) is GatedConv2d
    assert type(plain) is nn.Conv2d
    torch.testing.assert_close(run(small, x), expected)
    assert mmkdna.list_families(small) == []


def test_scripting_tracing_and_export_take_a_baked_model():
    def branch():
        return nn.Sequential(
            nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        )

    model = branch()
    mmkdna.convert(model, min_channels=16)
    perturb_adapters(model)
    mmkdna.bake(model.eval())
    x = torch.randn(2, 16, 8, 8)
    expected = run(model, x)
    scripted = torch.jit.script(model)
    torch.testing.assert_close(run(scripted, x), expected)
    graph = torch.fx.symbolic_trace(model)
    torch.testing.assert_close(run(graph, x), expected)
    program = torch.export.export(model, (x,)).module()
    torch.testing.assert_close(run(program, x), expected)
    loaded = branch()
    mmkdna.convert(loaded, min_channels=16)


def test_a_linear_child_takes_every_shape():
    model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16))
    mmkdna.convert(model, linear=True, min_channels=16, kernel_sizes=(1,))
    perturb_adapters(model)
    shapes = (2, 16), (2, 5, 16), (2, 3, 4, 16)
    inputs = [torch.randn(shape) for shape in shapes]
    expected = [run(model, x) for x in inputs]
    mmkdna.bake(model)
    for x, y in zip(inputs, expected, strict=True):
        torch.testing.assert_close(run(model, x), y)


def test_what_cannot_be_baked_is_as_it_was(small):
    before = small.state_dict()
    with pytest.raises(BadInput, match='members elsewhere'):
        mmkdna.bake(small.stages[0][0])
    assert small.state_dict().keys() == before.keys()
    with pytest.raises(BadInput, match='no families to bake'):
        mmkdna.bake(nn.Sequential(nn.Conv2d(3, 3, 1)))


@pytest.mark.parametrize('ending', ['pth', 'safetensors'])
def test_baked_and_unbaked_files_are_told_apart(
    small, build, tmp_path, ending
):
    x = torch.randn(2, 16, 8, 8)
    expected = run(small, x)
    unbaked = small.state_dict()
    mmkdna.bake(small)
    path = str(tmp_path / f'baked.{ending}')
    write_weights(small.state_dict(), path, {})

    with pytest.raises(BadInput, match=r'is baked.*mmkdna\.load_baked'):
        build(2, 2).load_state_dict(read_weights(path), strict=False)
    with pytest.raises(BadInput, match=r'is baked.*mmkdna\.bake'):
        small.load_state_dict(unbaked, strict=False)

    loaded = mmkdna.load_baked(build(2, 2), path).eval()
    torch.testing.assert_close(run(loaded, x), expected)
    with pytest.raises(BadInput, match='not the baked checkpoint'):
        mmkdna.load_baked(build(2, 2, channels=32), path)


def test_the_note_of_a_baked_file_without_gates_is_read(build, tmp_path):
    model = mmkdna.bake(build(2, 2))
    path = str(tmp_path / 'baked.pth')
    save_checkpoint({'state_dict': model.state_dict()}, path)
    with pytest.raises(BadInput, match='is baked'):
        build(2, 2).load_state_dict(read_weights(path))
