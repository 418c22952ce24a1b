"""What is timed: layers, backbones and the models of configs."""

import torch
from helpers import ROOT
from mmengine.config import Config
from torch import nn

import mmkdna
from mmkdna.deploy import GatedConv2d
from mmkdna.measure.configs import CONV_TYPES
from mmkdna.measure.subjects import (
    Conditions,
    backbone_subject,
    bake_and_fuse,
    config_subject,
    layer_subject,
    switch_convs,
)


def test_channels_last_leaves_five_dimensions_alone():
    how = Conditions(1, (8, 8), channels_last=True)
    convs = [
        layer_subject((16, 16, 3), dict(type=kind), how).model[0]
        for kind in CONV_TYPES
    ]
    layout = dict(memory_format=torch.channels_last)
    assert all(
        parameter.is_contiguous(**layout)
        for conv in convs
        for parameter in conv.parameters()
        if parameter.dim() == 4
    )


def test_a_backbone_of_torchvision_steps_in_half_precision():
    how = Conditions(2, (64, 64), dtype='bfloat16', channels_last=True)
    conv_cfg = dict(type='KernelDNA', min_channels=128)
    subject = backbone_subject('resnet18', conv_cfg, how)
    assert mmkdna.list_families(subject.model)
    assert subject.model.conv1.weight.is_contiguous(
        memory_format=torch.channels_last
    )
    before = [p.detach().clone() for p in subject.model.parameters()]
    after = list(subject.model.parameters())
    for mode in ('forward', 'step', 'backward'):
        subject.model.train(mode != 'forward')
        subject.run(mode)
        grads = [p.grad is not None for p in after]
        # A step ends without gradients.
        assert grads == [mode == 'backward'] * len(after)
    assert any(not a.equal(b) for a, b in zip(after, before, strict=True))


def test_a_segmentor_sees_the_size_that_is_asked_for():
    how = Conditions(2, (64, 96))
    cfg = Config.fromfile(ROOT / 'configs/digits/kdna_upernet_r18.py')
    subject = config_subject(cfg, None, how)
    seen = []
    subject.model.backbone.register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0].shape[2:])
    )
    subject.loss()
    subject.run('forward')
    assert seen == [(64, 96)] * 2


def test_the_convs_of_a_network_are_switched_in_place():
    net = nn.Sequential(
        nn.Conv2d(8, 8, 3, stride=2, padding=1, bias=True),
        nn.Conv2d(8, 8, 3, padding=1, groups=2, padding_mode='reflect'),
    )
    assert switch_convs(net, dict(type='DyConv')) is net
    assert net[0].stride == (2, 2)
    assert net[0].bias is not None
    assert net[1].groups == 2
    assert net[1].padding_mode == 'reflect'
    assert net(torch.randn(1, 8, 8, 8)).shape == (1, 8, 4, 4)


@torch.no_grad()
def test_what_is_shipped_keeps_gates_and_has_no_norm():
    how = Conditions(1, (32, 32))
    conv_cfg = dict(type='KernelDNA', min_channels=128)
    model = backbone_subject('resnet18', conv_cfg, how).model
    image = torch.randn(2, 3, 64, 64)
    model.train()(image)
    expected = model.eval()(image)
    children = sum(len(f.children) for f in mmkdna.list_families(model))
    bake_and_fuse(model)
    kinds = [type(m) for m in model.modules()]
    assert kinds.count(GatedConv2d) == children > 0
    assert nn.BatchNorm2d not in kinds
    torch.testing.assert_close(model(image), expected, rtol=1e-4, atol=1e-4)
