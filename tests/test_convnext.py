"""ConvNeXt: its families, its keys, and its two kinds of layers."""

import pytest
import torch
from helpers import families, perturb_adapters
from mmengine.registry import MODELS

import mmkdna.backbones


def test_convnext_shares_pointwise_layers_of_stages_3_and_4_by_three():
    model = MODELS.build(dict(type='KDNAConvNeXt', arch='small'))
    found = families(model)
    assert len(found) == 2 * (27 // 3 + 3 // 3)
    assert found[-1] == (
        'stages.3.0.pointwise_conv2, stages.3.1.pointwise_conv2 <- '
        'stages.3.2.pointwise_conv2'
    )
    assert not any(name.startswith(('stages.0', 'stages.1')) for name in found)
    block = model.stages[2][0]
    convs = block.pointwise_conv1, block.pointwise_conv2
    assert [len(c.adapter.routing.squeeze) for c in convs] == [384 // 4] * 2


@pytest.mark.parametrize('linear', [True, False])
def test_convnext_keeps_mmpretrains_keys_for_what_is_not_shared(linear):
    arguments = dict(arch='tiny', linear_pw_conv=linear)
    ours = MODELS.build(dict(type='KDNAConvNeXt', **arguments))
    plain = dict(type='mmpretrain.ConvNeXt', **arguments)
    plain = MODELS.build(plain).state_dict()
    children = {
        child.name
        for family in mmkdna.list_families(ours)
        for child in family.children
    }
    shapes = {
        key: value.shape
        for key, value in ours.state_dict().items()
        if '.adapter.' not in key
    }
    assert shapes == {
        key: value.shape
        for key, value in plain.items()
        if key not in {f'{name}.weight' for name in children}
    }


def test_convnext_of_linear_layers_is_that_of_convs():
    linear, conv = (
        MODELS.build(dict(type='KDNAConvNeXt', linear_pw_conv=choice))
        for choice in (True, False)
    )
    perturb_adapters(linear)
    state = {
        key: linear.state_dict()[key].reshape(value.shape)
        for key, value in conv.state_dict().items()
    }
    conv.load_state_dict(state)
    x = torch.randn(2, 3, 64, 64)
    linear.eval()
    conv.eval()
    with torch.no_grad():
        torch.testing.assert_close(linear(x), conv(x), rtol=1e-4, atol=1e-5)


def test_frozen_stages_of_convnext_stay_frozen():
    model = MODELS.build(dict(type='KDNAConvNeXt', frozen_stages=3))
    stages = model.stages
    assert not any(p.requires_grad for p in stages[2].parameters())
    assert all(p.requires_grad for p in stages[3].parameters())
