"""The plain twin of a config, however the config says KernelDNA."""

import pytest
from mmengine.config import Config

import mmkdna
from mmkdna.backbones import KDNAResNet
from mmkdna.datasets.prepare import check_pretrained
from mmkdna.measure.configs import twin_of


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


def test_a_pretrained_checkpoint_of_none_is_none():
    init_cfg = dict(type='Pretrained', checkpoint=None)
    check_pretrained(Config(dict(model=dict(init_cfg=init_cfg))))
    init_cfg['checkpoint'] = 'nothing.pth'
    with pytest.raises(FileNotFoundError, match=r'nothing\.pth is missing'):
        check_pretrained(Config(dict(model=dict(init_cfg=init_cfg))))
