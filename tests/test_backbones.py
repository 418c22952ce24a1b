"""The paper's backbones have the paper's size and compute its formulas."""

import pytest
import torch
from helpers import (
    by_the_formulas,
    families,
    linear_by_the_formulas,
    perturb_adapters,
)
from mmdet.registry import MODELS as MMDET
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.registry import MODELS as MMPRETRAIN
from mmseg.registry import MODELS as MMSEG
from torch import nn

import mmkdna
import mmkdna.backbones
from mmkdna.errors import BadInput
from mmkdna.layers import KernelDNALayer, KernelDNALinear

AUTHORS = dict(type='KernelDNA', norm='BN', gate='sigmoid')


@pytest.mark.parametrize(
    ('backbone', 'channels', 'parameters'),
    [
        (dict(type='KDNAResNet', depth=18), 512, 9_240_798),
        (dict(type='KDNAResNet', depth=50), 2048, 22_778_060),
        (dict(type='KDNAMobileNetV2'), 1280, 3_136_840),
        (dict(type='KDNAMobileNetV2', widen_factor=0.5), 1280, 1_878_232),
    ],
    ids=['R-18', 'R-50', 'MobileNetV2', 'MobileNetV2 x0.5'],
)
def test_parameters_are_those_of_the_authors_code(
    backbone, channels, parameters
):
    model = MODELS.build(dict(**backbone, conv_cfg=AUTHORS))
    head = nn.Linear(channels, 1000)
    count = sum(p.numel() for m in (model, head) for p in m.parameters())
    assert count == parameters


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


def test_mobilenet_shares_both_pointwise_convs_of_the_last_blocks():
    model = MODELS.build(dict(type='KDNAMobileNetV2'))
    assert families(model)[2:4] == [
        'layer4.1.conv.0.conv, layer4.2.conv.0.conv <- layer4.3.conv.0.conv',
        'layer4.1.conv.2.conv, layer4.2.conv.2.conv <- layer4.3.conv.2.conv',
    ]
    assert len(families(model)) == 8
    block = model.layer4[1].conv
    squeezed = {len(block[i].conv.adapter.routing.squeeze) for i in (0, 2)}
    assert squeezed == {64 // 4}


@pytest.mark.parametrize(
    'backbone',
    [
        dict(type='KDNAResNet', depth=18),
        dict(type='KDNAResNet', depth=50, deep_stem=True, avg_down=True),
        dict(type='KDNAMobileNetV2', widen_factor=0.5),
        dict(type='KDNAConvNeXt'),
        dict(type='KDNAConvNeXt', linear_pw_conv=False),
    ],
    ids=['R-18', 'R-50 V1d', 'MobileNetV2', 'ConvNeXt', 'ConvNeXt conv'],
)
def test_children_compute_the_formulas_inside(backbone):
    model = MODELS.build(backbone).double()
    model.eval()  # returns None in mmpretrain
    perturb_adapters(model)
    seen = []
    for module in model.modules():
        if isinstance(module, KernelDNALayer) and module.role == 'child':
            module.register_forward_hook(lambda *args: seen.append(args))
    with torch.no_grad():
        model(torch.randn(1, 3, 32, 32, dtype=torch.float64))
    assert len(seen) == sum(
        len(family.children) for family in mmkdna.list_families(model)
    )
    for child, (x,), out in seen[-2:]:
        linear = isinstance(child, KernelDNALinear)
        formulas = linear_by_the_formulas if linear else by_the_formulas
        torch.testing.assert_close(
            out, torch.from_numpy(formulas(child, x)), rtol=1e-6, atol=1e-12
        )


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


@pytest.mark.parametrize(
    ('registry', 'scope'),
    [(MMDET, 'mmdet'), (MMSEG, 'mmseg'), (MMPRETRAIN, 'mmpretrain')],
)
def test_every_scope_builds_them(registry, scope):
    init_default_scope(scope)
    for name in ('KDNAResNet', 'KDNAMobileNetV2', 'KDNAConvNeXt'):
        depth = dict(depth=18) if name == 'KDNAResNet' else {}
        assert families(registry.build(dict(type=name, **depth)))


@pytest.mark.parametrize(
    ('wrong', 'named'),
    [
        (dict(type='KDNAResNet', depth=19), 'depth=19: expected one of 18'),
        (dict(type='KDNAMobileNetV2', widen_factor=2.0), 'widen_factor=2.0'),
        (dict(type='KDNAConvNeXt', arch='huge'), "arch='huge': expected one"),
        (dict(type='KDNAConvNeXt', arch=['tiny']), 'arch='),
        (
            dict(type='KDNAConvNeXt', conv_cfg=dict(type='Conv2d')),
            "'type': 'Conv2d'",
        ),
        (
            dict(type='KDNAResNet', depth=18, conv_cfg=dict(type='DCNv2')),
            "'type': 'DCNv2'",
        ),
        (
            dict(type='KDNAMobileNetV2', conv_cfg=dict(type='Conv2d')),
            "'type': 'Conv2d'",
        ),
    ],
)
def test_wrong_argument_is_named(wrong, named):
    with pytest.raises(BadInput, match=named):
        MODELS.build(wrong)
