"""The conv type, and the key ``kernel_dna``, switch a module."""

import copy

import pytest
import torch
from helpers import CONV_CFG, families
from mmcv.cnn import ConvModule, build_conv_layer
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn

import mmkdna
from mmkdna.errors import BadInput
from mmkdna.layers import Settings

NO_BIAS = dict(type='Conv2d', bias=False)
CONV1D = dict(type='Conv1d')


@MODELS.register_module(force=True)
class Convs(nn.Sequential):
    """Convolutions of whatever kind its class says by default."""

    def __init__(self, conv_cfg=NO_BIAS):
        super().__init__(
            *(build_conv_layer(conv_cfg, 16, 16, 3) for _ in '123')
        )


@MODELS.register_module(force=True)
class Inherits(Convs):
    """Passes what it gets on to a class that has the default."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)


@MODELS.register_module(force=True)
class Hands(nn.Module):
    """Hands its conv_cfg, None by default, to a module built inside."""

    def __init__(self, conv_cfg=None):
        super().__init__()
        if conv_cfg is None:
            conv_cfg = dict(type='Conv2d')
        self.inner = MODELS.build(dict(type='Convs', conv_cfg=conv_cfg))


@MODELS.register_module(force=True)
class Temporal(Convs):
    """As MMPose's TCN: of one-dimensional convolutions."""

    def __init__(self, conv_cfg=CONV1D):
        super().__init__(conv_cfg)


def test_the_conv_type_builds_the_plain_layer_marked_with_its_settings():
    layer = build_conv_layer(CONV_CFG, 16, 32, 3, padding=1, bias=False)
    assert type(layer) is nn.Conv2d
    assert layer.kernel_dna == Settings(min_channels=16)
    torch.manual_seed(1)
    ours = build_conv_layer(CONV_CFG, 16, 32, 3)
    torch.manual_seed(1)
    plain = build_conv_layer(None, 16, 32, 3)
    assert torch.equal(ours.weight, plain.weight)
    assert torch.equal(ours.bias, plain.bias)


@pytest.mark.parametrize('name', ['KernelDNA', 'mmengine.KernelDNA', 'class'])
def test_the_type_is_a_name_or_the_class(name):
    kind = mmkdna.KernelDNA if name == 'class' else name
    conv_cfg = dict(CONV_CFG, type=kind)
    model = MODELS.build(
        dict(type='Stages', depths=[3], channels=16, conv_cfg=conv_cfg)
    )
    assert families(model) == ['stages.0.1.conv.conv <- stages.0.2.conv.conv']
    assert type(model.stages[0][0].conv.conv) is nn.Conv2d


NEW_STYLE = """
from mmengine.config import read_base

with read_base():
    from .base import model

from mmdet.models import FPN
from mmkdna import KernelDNA

conv_cfg = dict(type=KernelDNA, min_channels=32, family_size=3)
model.update(dict(backbone=dict(conv_cfg=conv_cfg)))
neck = dict(type=FPN, in_channels=[32] * 3, out_channels=32, num_outs=3,
            conv_cfg=conv_cfg)
"""
BASE = """
from mmdet.models import ResNet

model = dict(backbone=dict(type=ResNet, depth=34, base_channels=8))
"""


def test_a_new_style_config_file_gives_all_arguments(tmp_path):
    (tmp_path / 'base.py').write_text(BASE)
    (tmp_path / 'new.py').write_text(NEW_STYLE)
    cfg = Config.fromfile(tmp_path / 'new.py')
    assert families(MODELS.build(cfg.model.backbone))[-1] == (
        'layer4.1.conv2, layer4.2.conv1 <- layer4.2.conv2'
    )
    neck = MODELS.build(cfg.neck)
    assert families(neck) == [
        'fpn_convs.0.conv, fpn_convs.1.conv <- fpn_convs.2.conv'
    ]


@pytest.mark.parametrize(
    'conv_cfg',
    [CONV_CFG, dict(CONV_CFG, bias=False)],
    ids=['default', 'given'],
)
@pytest.mark.parametrize('name', ['Convs', 'Inherits'])
def test_bias_false_in_a_conv_cfg_holds(name, conv_cfg):
    model = MODELS.build(dict(type=name, conv_cfg=conv_cfg))
    assert families(model) == ['1 <- 2']
    assert [layer.bias for layer in model] == [None] * 3


def test_a_default_is_that_of_the_class_that_got_the_conv_cfg():
    plain, ours = (
        MODELS.build(dict(type='Hands', conv_cfg=conv_cfg))
        for conv_cfg in (None, CONV_CFG)
    )
    assert all(layer.bias is not None for layer in (*plain.inner, *ours.inner))
    assert families(ours) == ['inner.1 <- inner.2']


def test_the_callers_arguments_win_over_a_default():
    layer = mmkdna.KernelDNA(
        8, 8, 3, plain=dict(type='Conv2d', bias=False), bias=True
    )
    assert layer.bias is not None


def test_a_class_whose_convs_are_1d_keeps_them(log):
    model = MODELS.build(dict(type='Temporal', conv_cfg=CONV_CFG))
    assert {type(layer) for layer in model} == {nn.Conv1d}
    assert families(model) == []
    assert 'a Conv1d, only nn.Conv2d or nn.Linear' in log.messages[-1]
    assert model(torch.randn(2, 16, 9)).shape == (2, 16, 3)


def test_efficientnet_keeps_its_padding_and_its_output(log):
    import mmpretrain.models  # noqa: F401

    cfg = dict(type='mmpretrain.EfficientNet', arch='b0', out_indices=(6,))
    ours = MODELS.build(dict(cfg, conv_cfg=CONV_CFG))
    plain = MODELS.build(cfg)
    assert 'a Conv2dAdaptivePadding, only' in log.messages[-1]
    assert list(map(type, ours.modules())) == list(map(type, plain.modules()))
    ours.load_state_dict(plain.state_dict())
    ours.eval()
    plain.eval()
    x = torch.randn(1, 3, 65, 65)
    with torch.no_grad():
        assert torch.equal(ours(x)[0], plain(x)[0])


@pytest.mark.parametrize('conv_cfg', [CONV_CFG, dict(type='Conv2d')])
def test_a_build_leaves_the_users_config_as_it_is(conv_cfg):
    cfg = dict(
        type='Convs', conv_cfg=dict(conv_cfg), kernel_dna=dict(min_channels=16)
    )
    before = copy.deepcopy(cfg)
    assert families(MODELS.build(cfg)) == ['1 <- 2']
    assert cfg == before
    assert families(MODELS.build(cfg)) == ['1 <- 2']


def test_the_key_switches_a_module_that_takes_no_conv_cfg():
    cfg = dict(type='TakesNoConvCfg', kernel_dna=dict(min_channels=16))
    model = MODELS.build(cfg)
    assert families(model) == ['convs.1 <- convs.2']
    assert type(model.convs[0]) is nn.Conv2d
    cfg['kernel_dna'] = dict(min_channels=16, kernel_sizes=[1, 3], linear=True)
    assert families(MODELS.build(cfg)) == [
        'convs.1 <- convs.2',
        'linears.0 <- linears.1',
    ]
    cfg['kernel_dna'] = None
    assert families(MODELS.build(cfg)) == []


def test_the_key_serves_an_item_of_a_list_and_a_config_of_a_file():
    cfg = Config(
        dict(
            model=[
                dict(type='TakesNoConvCfg'),
                dict(type='TakesNoConvCfg', kernel_dna=dict(min_channels=16)),
            ]
        )
    )
    text = cfg.pretty_text
    model = MODELS.build(cfg.model)
    assert families(model) == ['1.convs.1 <- 1.convs.2']
    assert cfg.pretty_text == text


def test_cspnext_forms_families_by_the_key():
    import mmdet.models  # noqa: F401

    cfg = dict(
        type='mmdet.CSPNeXt',
        deepen_factor=0.33,
        widen_factor=0.25,
        norm_cfg=dict(type='BN'),
        out_indices=(4,),
        kernel_dna=dict(min_channels=16),
    )
    model = MODELS.build(cfg)
    assert families(model) == [
        f'stage{i}.1.blocks.0.conv1.conv <- stage{i}.1.blocks.1.conv1.conv'
        for i in (2, 3)
    ]
    assert model(torch.randn(2, 3, 64, 64))[0].isfinite().all()


@pytest.mark.parametrize(
    ('backbone', 'members'),
    [
        (
            dict(
                type='mmpretrain.VisionTransformer',
                arch=dict(
                    embed_dims=32,
                    num_layers=2,
                    num_heads=2,
                    feedforward_channels=64,
                ),
                img_size=32,
                patch_size=8,
            ),
            ['attn.qkv', 'attn.proj', 'ffn.layers.0.0'],
        ),
        (
            dict(
                type='mmpretrain.SwinTransformer',
                arch=dict(embed_dims=32, depths=[2] * 4, num_heads=[2] * 4),
                img_size=64,
                patch_size=2,
                window_size=4,
                out_indices=(0,),
            ),
            ['attn.w_msa.qkv', 'attn.w_msa.proj', 'ffn.layers.0.0'],
        ),
    ],
    ids=['ViT', 'Swin'],
)
def test_transformers_share_linear_layers_by_the_key(backbone, members):
    import mmpretrain.models  # noqa: F401

    key = dict(linear=True, kernel_sizes=[1], min_channels=32)
    model = MODELS.build(dict(backbone, kernel_dna=key))
    found = families(model)
    for name in members:
        assert any(name in family for family in found), (name, found)
    size = backbone['img_size']
    out = model(torch.randn(2, 3, size, size))[0]
    out.square().mean().backward()
    for family in mmkdna.list_families(model)[:3]:
        for _, layer in family.members:
            for parameter in layer.parameters():
                assert parameter.grad is not None
                assert parameter.grad.isfinite().all()


@pytest.mark.parametrize(
    ('key', 'message'),
    [
        (dict(min_chanels=16), 'did you mean min_channels'),
        (dict(min_channels=0), 'min_channels=0: expected an int of at least'),
        (dict(linear=1), 'linear=1: expected True or False'),
        (3, 'kernel_dna=3: expected a dict'),
        (dict(families=[['convs.1', 'convs.7']]), "'convs.7' is unknown"),
    ],
)
def test_a_mistake_in_the_key_is_refused(key, message):
    with pytest.raises(BadInput, match=message):
        MODELS.build(dict(type='TakesNoConvCfg', kernel_dna=key))


def test_a_conv_module_is_marked_as_its_plain_twin_is_built():
    ours = ConvModule(16, 16, 3, conv_cfg=CONV_CFG, norm_cfg=dict(type='BN'))
    plain = ConvModule(16, 16, 3, norm_cfg=dict(type='BN'))
    assert ours.state_dict().keys() == plain.state_dict().keys()
    assert list(map(type, ours.modules())) == list(map(type, plain.modules()))
