"""A plain layer becomes a member in place."""

import torch
from helpers import convs
from mmcv.cnn import ConvModule
from torch import nn

import mmkdna
from mmkdna.layers import KernelDNAConv2d


def test_a_layer_becomes_a_member_in_place():
    """Its aliases, hooks and attributes stay."""
    model = nn.Module()
    model.convs = convs(3)
    before = list(model.convs)
    model.first, model.again = before[0], nn.ModuleList(before[1:])
    seen = []
    before[1].register_forward_hook(lambda layer, *_: seen.append(layer))
    before[2].register_forward_pre_hook(lambda layer, _: seen.append(layer))
    before[1].note = ['mine']
    mmkdna.form_families(model)
    assert type(model.first) is nn.Conv2d
    assert [type(layer) for layer in model.again] == [KernelDNAConv2d] * 2
    assert list(map(id, model.convs)) == list(map(id, before))
    assert model.again[0] is before[1]
    assert before[1].note == ['mine']
    model.convs(torch.randn(2, 16, 9, 9))
    assert list(map(id, seen)) == list(map(id, before[1:]))


def test_an_adapter_takes_after_the_kernel_it_replaces():
    model = convs(2).eval().half().requires_grad_(False)
    mmkdna.form_families(model)
    adapter = model[0].adapter
    assert not adapter.training
    for parameter in adapter.parameters():
        assert parameter.dtype is torch.float16
        assert not parameter.requires_grad


def test_members_stay_the_objects_that_they_were():
    conv_cfg = dict(type='KernelDNA', min_channels=1)
    model = nn.Sequential(
        *(
            ConvModule(8, 8, 3, conv_cfg=conv_cfg, norm_cfg=dict(type='BN'))
            for _ in range(2)
        )
    )
    convs = [m.conv for m in model]
    seen = []
    convs[0].register_forward_hook(lambda *_: seen.append('child'))
    convs[1].note = 'kept'
    assert {type(conv) for conv in convs} == {nn.Conv2d}
    mmkdna.form_families(model)
    assert [m.conv for m in model] == convs
    assert {type(conv) for conv in convs} == {KernelDNAConv2d}
    model(torch.randn(2, 8, 8, 8))
    assert seen == ['child']
    assert convs[1].note == 'kept'
    assert not model[0].conv.transposed
