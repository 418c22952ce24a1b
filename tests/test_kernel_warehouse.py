"""Warehouses: which convs share one, and what they compute at first."""

import math

import pytest
import torch
from mmcv.cnn import build_conv_layer
from mmengine.registry import MODELS
from torch import nn

import mmkdna
from mmkdna.peers import KernelWarehouseConv2d


def test_a_warehouse_starts_as_the_plain_network():
    torch.manual_seed(0)
    small = dict(
        type='mmpretrain.ResNet', depth=18, stem_channels=8, base_channels=8
    )
    resnet = MODELS.build(small)
    ours = MODELS.build(dict(small, conv_cfg=dict(type='KernelWarehouse')))
    for model in (resnet, ours):
        model.eval()  # returns nothing
    layers = {
        name: layer
        for name, layer in ours.named_modules()
        if isinstance(layer, KernelWarehouseConv2d)
    }
    # The shortcuts have stride 2 but for the first stage's, which has none.
    assert len(layers) == 16 + 3
    for layer in layers.values():
        layer.temperature.fill_(1)
    # As the warehouses say, a plain network's kernels.
    weights = {
        key: value
        for key, value in ours.state_dict().items()
        if key in resnet.state_dict()
    }
    image = torch.zeros(1, 8, 4, 4)
    for name, layer in layers.items():
        x = image.repeat(1, layer.in_channels // 8, 1, 1)
        weights[f'{name}.weight'] = layer.kernels(x)[0].detach()
    resnet.load_state_dict(weights)
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(ours(x)[0], resnet(x)[0])
    # The kernels are as a plain network's are drawn, each cell used once.
    for name, layer in layers.items():
        std = weights[f'{name}.weight'].std()
        fan_out = layer.kernel_shape[0] * math.prod(layer.kernel_size)
        assert 0.7 < std / math.sqrt(2 / fan_out) < 1.3, name


def test_the_first_conv_of_a_stage_shares_with_the_stage_before():
    model = MODELS.build(
        dict(
            type='mmpretrain.ResNet',
            depth=50,
            conv_cfg=dict(type='KernelWarehouse'),
        )
    )
    for name in ('conv1', 'layer1.0.conv1', 'layer1.0.downsample.0'):
        assert type(model.get_submodule(name)) is nn.Conv2d, name

    def owner(name):
        return model.get_submodule(name).owner

    first, second = owner('layer1.0.conv2'), owner('layer2.1.conv1')
    assert first is not second
    assert first is owner('layer1.2.conv3') is owner('layer2.0.conv1')
    assert first is owner('layer2.0.downsample.0')
    assert second is owner('layer2.0.conv2') is owner('layer3.0.conv1')


@pytest.mark.parametrize('budget', [0.5, 0.25, 2])
def test_a_warehouse_of_another_size(budget):
    model = nn.Sequential(
        *(
            build_conv_layer(
                dict(type='KernelWarehouse', budget=budget), 8, 8, 3
            )
            for _ in range(2)
        )
    )
    mmkdna.form_families(model)
    cells = model[0].cells
    assert cells.shape == (2 * 9 * budget // 1, 8, 8)
    assert model[1].cells is None
    assert 'cells' not in dict(model[1].named_parameters())
    used = torch.cat([layer.assignment for layer in model])
    used = used[used < len(cells)]
    assert len(used.unique()) == len(used)
    model(torch.randn(2, 8, 8, 8)).sum().backward()


def test_a_frozen_stage_stays_frozen():
    model = MODELS.build(
        dict(
            type='mmpretrain.ResNet',
            depth=18,
            frozen_stages=1,
            conv_cfg=dict(type='KernelWarehouse'),
        )
    )
    assert not any(p.requires_grad for p in model.layer1.parameters())
    assert all(p.requires_grad for p in model.layer3.parameters())


def test_a_wrong_budget_is_named():
    with pytest.raises(ValueError, match='budget=0: expected a number'):
        build_conv_layer(dict(type='KernelWarehouse', budget=0), 8, 8, 3)
