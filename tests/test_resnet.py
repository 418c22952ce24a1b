"""The paper's ResNet: its families."""

import pytest
from helpers import families
from mmengine.registry import MODELS

import mmkdna.backbones  # noqa: F401


def test_resnet_18_has_families_of_three_then_two():
    model = MODELS.build(dict(type='KDNAResNet', depth=18))
    expected = (
        '{0}.0.conv2, {0}.1.conv1 <- {0}.1.conv2',
        '{0}.2.conv1 <- {0}.2.conv2',
    )
    assert families(model) == [
        family.format(stage)
        for stage in ('layer3', 'layer4')
        for family in expected
    ]


def test_resnet_50_has_families_of_two():
    model = MODELS.build(dict(type='KDNAResNet', depth=50))
    assert families(model) == [
        'layer3.1.conv2 <- layer3.2.conv2',
        'layer3.3.conv2 <- layer3.4.conv2',
        'layer3.5.conv2 <- layer3.6.conv2',
        'layer4.1.conv2 <- layer4.2.conv2',
    ]


@pytest.mark.parametrize('depth', [34, 101])
def test_deeper_resnets_share_in_stages_3_and_4(depth):
    model = MODELS.build(dict(type='KDNAResNet', depth=depth))
    stages = {name.split('.')[0] for name in families(model)}
    assert stages == {'layer3', 'layer4'}
