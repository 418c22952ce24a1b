"""What a config says of its model, and its plain twin."""

import pytest
from helpers import ROOT
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

import mmkdna
from mmkdna.backbones import KDNAResNet
from mmkdna.measure.configs import (
    CONV_TYPES,
    build_model,
    input_size,
    library,
    parse_conv_type,
    twin_of,
)
from mmkdna.peers import TYPES, DynamicConv2d, ODConv2d

CONFIGS = ROOT / 'configs'


CLASSIFIER = str(ROOT / 'configs/digits/kdna_r18.py')


def twin(**backbone):
    cfg = Config(dict(model=dict(type='X', backbone=backbone)))
    return twin_of(cfg).model.backbone.to_dict()


@pytest.mark.parametrize(
    'kind', ['KernelDNA', 'mmengine.KernelDNA', mmkdna.KernelDNA]
)
def test_a_conv_type_is_dropped_by_any_of_its_names(kind):
    conv_cfg = dict(type=kind, min_channels=3)
    assert twin(type='Y', conv_cfg=conv_cfg) == dict(type='Y')


def test_the_key_of_a_module_is_dropped():
    assert twin(type='Y', kernel_dna=dict(linear=True)) == dict(type='Y')


@pytest.mark.parametrize(
    'kind', ['KDNAResNet', 'mmengine.KDNAResNet', KDNAResNet]
)
def test_our_backbones_are_the_classes_that_they_extend(kind):
    expected = dict(type='mmpretrain.ResNet', depth=18)
    assert twin(type=kind, depth=18) == expected


@pytest.mark.parametrize('conv_cfg', [None, dict(type='DCNv2')])
def test_what_is_not_ours_stays(conv_cfg):
    backbone = dict(type='mmdet.ResNet', conv_cfg=conv_cfg)
    assert twin(**backbone) == backbone


def test_types_are_parsed():
    assert parse_conv_type('plain') is None
    assert parse_conv_type('ODConv,experts=4,norm=LN') == dict(
        type='ODConv', experts=4, norm='LN'
    )
    assert parse_conv_type('KernelDNA,kernel_sizes=(1,)') is not None


def test_a_type_that_a_config_brings_is_known(monkeypatch):
    monkeypatch.setitem(TYPES, 'Mine', ODConv2d)
    assert parse_conv_type('Mine,experts=2') == dict(type='Mine', experts=2)


def test_kernel_dna_alone_is_the_config_as_it_is():
    cfg = Config.fromfile(CLASSIFIER)
    assert twin_of(cfg, dict(type='KernelDNA')).model == cfg.model
    other = twin_of(cfg, dict(type='KernelDNA', min_channels=64)).model
    assert other.backbone.conv_cfg.min_channels == 64


@pytest.mark.parametrize('kind', CONV_TYPES[1:])
def test_one_word_of_the_config_switches_the_type(kind):
    cfg = twin_of(Config.fromfile(CLASSIFIER), dict(type=kind))
    model = build_model(cfg)
    dynamic = [m for m in model.modules() if isinstance(m, DynamicConv2d)]
    assert {m.kind for m in dynamic} == {kind}
    assert type(model.backbone.stem[0].conv) is nn.Conv2d
    assert not mmkdna.list_families(model)


def test_twin_of_the_papers_backbone_is_the_class_that_it_extends():
    cfg = twin_of(Config.fromfile(CONFIGS / 'kdna_r18_in1k.py'))
    assert cfg.model.backbone.type == 'mmpretrain.ResNet'
    assert mmkdna.list_families(build_model(cfg)) == []


def test_input_sizes_are_those_of_the_test_pipelines():
    sizes = {
        'kdna_maskrcnn_r50': (800, 1344),
        'kdna_upernet_r50_cityscapes': (512, 1024),
        'kdna_r18_in1k': (224, 224),
        'digits/kdna_r18': (48, 48),
        'digits/kdna_retinanet_r18': (160, 160),
    }
    assert sizes == {
        key: input_size(Config.fromfile(CONFIGS / f'{key}.py'))
        for key in sizes
    }


def test_config_of_another_library_is_named():
    cfg = Config.fromfile(CONFIGS / 'kdna_r18_in1k.py')
    cfg.default_scope = 'mmagic'
    with pytest.raises(ValueError, match="default_scope='mmagic': expected"):
        library(cfg)
    init_default_scope('mmengine')
