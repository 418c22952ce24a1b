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
