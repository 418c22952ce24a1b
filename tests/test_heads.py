"""Heads and necks of mmdet start as their plain twins, whatever sets them."""

import mmdet.models  # noqa: F401
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from torch import nn

import mmkdna
from mmkdna.layers import KernelDNALayer

CONV_CFG = dict(type='KernelDNA', min_channels=32)
WIDTH = dict(num_classes=3, in_channels=32, feat_channels=32, stacked_convs=2)
POINTS = dict(type='MlvlPointGenerator', offset=0, strides=[8, 16])
ANCHORS = dict(
    type='AnchorGenerator',
    ratios=[1.0],
    scales=[1],
    strides=[8, 16],
)
DELTA, DISTANCE = (
    dict(type=f'{kind}BBoxCoder') for kind in ('DeltaXYWH', 'DistancePoint')
)
HEADS = {
    'RetinaHead': dict(WIDTH, anchor_generator=ANCHORS, bbox_coder=DELTA),
    'RTMDetHead': dict(WIDTH, anchor_generator=POINTS, bbox_coder=DISTANCE),
    'TOODHead': dict(
        WIDTH,
        anchor_type='anchor_free',
        anchor_generator=ANCHORS,
        bbox_coder=DISTANCE,
        norm_cfg=dict(type='GN', num_groups=4),
    ),
    'YOLOFHead': dict(
        num_classes=3,
        in_channels=32,
        num_cls_convs=2,
        num_reg_convs=4,
        anchor_generator=dict(ANCHORS, strides=[32]),
        bbox_coder=DELTA,
    ),
}


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmdet')


def head(name, switch):
    """A head by its conv_cfg, or where it takes none by the key."""
    key = 'kernel_dna' if name == 'YOLOFHead' else 'conv_cfg'
    settings = dict(CONV_CFG)
    if key == 'kernel_dna':
        del settings['type']
    return MODELS.build(
        dict(HEADS[name], type=name, **{key: settings if switch else None})
    )


@pytest.mark.parametrize('name', HEADS)
def test_init_weights_of_a_head_reaches_members(name):
    ours, plain = head(name, True), head(name, False)
    parents = [f.parent for f in mmkdna.list_families(ours)]
    assert parents
    for key, parent in parents:
        expected = plain.get_submodule(key)
        for layer in (parent, expected):
            nn.init.constant_(layer.weight, 7)
    ours.init_weights()
    plain.init_weights()
    for key, parent in parents:
        spread, mean = torch.std_mean(parent.weight)
        expected = plain.get_submodule(key).weight.std().item()
        assert spread.item() == pytest.approx(expected, rel=0.05), key
        assert abs(mean) < 0.1 * spread


def test_logits_of_a_retina_head_start_as_narrow_as_the_plain_ones():
    x = [torch.randn(2, 32, size, size) for size in (16, 8)]
    spread = []
    for switch in (False, True):
        model = head('RetinaHead', switch)
        model.init_weights()
        assert model.cls_convs[1].conv.weight.std().item() == pytest.approx(
            0.01, rel=0.05
        )
        spread.append(model(x)[0][0].std().item())
    assert 0.5 < spread[1] / spread[0] < 2


def test_an_fpn_starts_with_xaviers_bound():
    cfg = dict(type='FPN', in_channels=[16, 16], out_channels=32, num_outs=2)
    model = MODELS.build(dict(cfg, conv_cfg=CONV_CFG))
    model.init_weights()
    (family,) = mmkdna.list_families(model)
    bound = (6 / (2 * 32 * 9)) ** 0.5
    largest = family.parent.module.weight.abs().max().item()
    assert bound * 0.99 < largest <= bound


def test_an_init_cfg_of_the_users_reaches_members_and_no_adapter():
    model = MODELS.build(
        dict(
            type='FPN',
            in_channels=[16, 16],
            out_channels=32,
            num_outs=2,
            conv_cfg=CONV_CFG,
            init_cfg=dict(type='Constant', layer='Conv2d', val=3, bias=2),
        )
    )
    model.init_weights()
    (family,) = mmkdna.list_families(model)
    parent, child = (layer for _, layer in family.members)
    assert (parent.weight == 3).all()
    assert (child.bias == 2).all()
    assert not child.adapter.static.filter.any()
    assert child.adapter.routing.is_open()


@pytest.mark.parametrize('share_conv', [True, False])
def test_convs_that_a_head_shares_between_levels_stay_shared(share_conv):
    model = MODELS.build(
        dict(
            HEADS['RTMDetHead'],
            type='RTMDetSepBNHead',
            share_conv=share_conv,
            norm_cfg=dict(type='BN'),
            conv_cfg=CONV_CFG,
        )
    )
    (one, _), (other, _) = model.cls_convs
    assert (one.conv is other.conv) == share_conv
    assert one.conv.role == other.conv.role == 'child'
    assert len(mmkdna.list_families(model)) == (2 if share_conv else 4)
    scores, _ = model([torch.randn(2, 32, size, size) for size in (8, 4)])
    assert all(score.isfinite().all() for score in scores)


def test_convs_under_two_names_of_a_retina_head_stay_one():
    model = MODELS.build(
        dict(
            HEADS['RetinaHead'],
            type='RetinaSepBNHead',
            num_ins=2,
            norm_cfg=dict(type='BN'),
            conv_cfg=CONV_CFG,
        )
    )
    for one, other in zip(*model.cls_convs, strict=True):
        assert one.conv is other.conv
        assert isinstance(one.conv, KernelDNALayer)
    model.init_weights()
    own = MODELS.build(
        dict(
            HEADS['RetinaHead'],
            type='RetinaSepBNHead',
            num_ins=2,
            norm_cfg=dict(type='BN'),
            conv_cfg=CONV_CFG,
        )
    )
    own.load_state_dict(model.state_dict(), strict=True)
    x = [torch.randn(2, 32, size, size) for size in (8, 4)]
    for ours, theirs in zip(model(x)[0], own(x)[0], strict=True):
        torch.testing.assert_close(ours, theirs)
