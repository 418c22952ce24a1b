"""Which convs form families, by the rule and by name."""

import pytest
import torch
from mmcv.cnn import ConvModule, build_conv_layer
from mmengine.registry import MODELS
from torch import nn

import mmkdna
from mmkdna.families import conv_sites, group_families


@pytest.mark.parametrize(
    ('depth', 'conv_cfg', 'expected'),
    [
        (4, {}, ['0.0 <- 0.1', '0.2 <- 0.3']),
        (5, {}, ['0.1 <- 0.2', '0.3 <- 0.4']),
        (4, dict(parent='first'), ['0.1 <- 0.0', '0.3 <- 0.2']),
        (5, dict(family_size=3), ['0.2, 0.3 <- 0.4']),
        (7, dict(family_size=3), ['0.1, 0.2 <- 0.3', '0.4, 0.5 <- 0.6']),
        (5, dict(family_size=None), ['0.0, 0.1, 0.2, 0.3 <- 0.4']),
        (5, dict(family_size=[3, 2]), ['0.0, 0.1 <- 0.2', '0.3 <- 0.4']),
        (6, dict(family_size=[3, 2]), ['0.1, 0.2 <- 0.3', '0.4 <- 0.5']),
        (2, dict(family_size=3), []),
        (1, dict(family_size=None), []),
    ],
)
def test_families_are_cut_from_the_end(
    build, names, depth, conv_cfg, expected
):
    assert names(build(depth, **conv_cfg)) == expected


def test_a_stage_is_the_innermost_container_that_holds_two(build, names):
    assert names(build(2, 3)) == ['0.0 <- 0.1', '1.1 <- 1.2']
    # One conv each: the list of the stages is what holds two of them.
    assert names(build(1, 1)) == ['0.0 <- 1.0']


def test_strided_conv_stays_out(build, names):
    model = build(3, strided=True)
    assert names(model) == ['0.1 <- 0.2']
    assert type(model.stages[0][0].conv.conv) is nn.Conv2d


def test_convs_of_two_policies_or_shapes_do_not_mix():
    def conv(channels=16, **cfg):
        cfg = dict(type='KernelDNA', min_channels=1, **cfg)
        return build_conv_layer(cfg, channels, channels, 3)

    model = nn.Sequential(conv(), conv(reduction=2), conv(8), conv(16))
    families = mmkdna.form_families(model)
    assert list(map(str, families)) == ['0 <- 3']


def test_shared_module_counts_once():
    cfg = dict(type='KernelDNA', min_channels=16)
    conv = build_conv_layer(cfg, 16, 16, 3)
    assert mmkdna.form_families(nn.Sequential(conv, conv)) == []


def test_grouping_touches_nothing():
    cfg = dict(type='KernelDNA', min_channels=16)
    model = nn.Sequential(
        *(build_conv_layer(cfg, 16, 16, 3) for _ in range(4))
    )
    before = [(n, id(p)) for n, p in model.named_parameters()]
    families = group_families(conv_sites(model))
    assert len(families) == 2
    assert [(n, id(p)) for n, p in model.named_parameters()] == before
    assert all(conv.role == 'free' for conv in model)


def test_forming_twice_changes_nothing(build):
    model = build(5, family_size=[2])
    state = {k: id(v) for k, v in model.state_dict(keep_vars=True).items()}
    first = mmkdna.list_families(model)
    assert mmkdna.form_families(model) == first
    after = {k: id(v) for k, v in model.state_dict(keep_vars=True).items()}
    assert after == state


def test_adapter_takes_after_the_kernel_it_replaces():
    cfg = dict(type='KernelDNA', min_channels=16)
    model = nn.Sequential(*(build_conv_layer(cfg, 16, 16, 3) for _ in '12'))
    model.eval().half().requires_grad_(False)
    mmkdna.form_families(model)
    adapter = model[0].adapter
    assert not adapter.training
    for parameter in adapter.parameters():
        assert parameter.dtype is torch.float16
        assert not parameter.requires_grad


def test_spectral_norm_keeps_a_conv_out():
    cfg = dict(type='KernelDNA', min_channels=16)
    model = nn.Sequential(
        *(
            ConvModule(16, 16, 3, conv_cfg=cfg, with_spectral_norm=i < 2)
            for i in range(4)
        )
    )
    families = mmkdna.form_families(model)
    assert list(map(str, families)) == ['2.conv <- 3.conv']


def test_list_of_sizes_that_does_not_fit_is_refused(build):
    with pytest.raises(ValueError, match=r'stages\.1: family_size=\[3, 2\]'):
        build(5, 4, family_size=[3, 2])


NAMES = [['stages.1.0.conv.conv', 'stages.0.0.conv.conv']]


def test_listed_families_override_the_rule(build, names):
    model = build(2, 2, families=NAMES, min_channels=999, strided=True)
    assert names(model) == ['1.0 <- 0.0']


def test_listed_parent_is_last_or_first_of_its_list(build, names):
    assert names(build(2, 2, families=NAMES, parent='first')) == ['0.0 <- 1.0']


def test_name_of_a_conv_module_stands_for_its_conv(build, names):
    assert names(build(3, families=[['stages.0.0', 'stages.0.2.conv']])) == [
        '0.0 <- 0.2'
    ]


def test_names_are_relative_to_the_module_that_got_the_conv_cfg():
    @MODELS.register_module(force=True)
    class Detector(nn.Module):
        def __init__(self, backbone, teacher):
            super().__init__()
            self.backbone = MODELS.build(backbone)
            self.teacher = MODELS.build(teacher)

    part = dict(
        type='Stages',
        depths=[2],
        conv_cfg=dict(
            type='KernelDNA',
            families=[['stages.0.1.conv.conv', 'stages.0.0.conv.conv']],
        ),
    )
    model = MODELS.build(dict(type='Detector', backbone=part, teacher=part))
    assert [str(f) for f in mmkdna.list_families(model)] == [
        f'{name}.stages.0.1.conv.conv <- {name}.stages.0.0.conv.conv'
        for name in ('backbone', 'teacher')
    ]
    mmkdna.form_families(model)
    assert len(mmkdna.list_families(model)) == 2


def test_unknown_name_is_refused_with_the_nearest(build):
    with pytest.raises(KeyError, match=r"'stages\.0\.7.*is unknown") as error:
        build(3, families=[['stages.0.7.conv.conv', 'stages.0.1.conv.conv']])
    assert 'stages.0.2.conv.conv' in str(error.value)


def test_name_that_holds_several_convs_is_refused(build):
    with pytest.raises(KeyError, match='holds several convs'):
        build(3, families=[['stages.0', 'stages.0.1']])


def test_one_conv_under_two_names_is_refused(build):
    with pytest.raises(ValueError, match='listed twice'):
        build(3, families=[['stages.0.1', 'stages.0.1.conv.conv']])


def test_one_conv_in_two_families_is_refused(build):
    pairs = [['stages.0.0', 'stages.0.1'], ['stages.0.2', 'stages.0.1.conv']]
    with pytest.raises(ValueError, match='listed twice'):
        build(3, families=pairs)


def test_listed_conv_with_spectral_norm_is_refused():
    cfg = dict(type='KernelDNA', families=[['0', '1']])
    model = nn.Sequential(
        *(
            ConvModule(16, 16, 3, conv_cfg=cfg, with_spectral_norm=i == 1)
            for i in range(2)
        )
    )
    with pytest.raises(ValueError, match=r'weight of 1 is parametrised'):
        mmkdna.form_families(model)


def test_listed_convs_of_unequal_shape_are_refused():
    cfg = dict(type='KernelDNA', families=[['0', '1']])
    model = nn.Sequential(
        build_conv_layer(cfg, 16, 16, 3), build_conv_layer(cfg, 16, 32, 3)
    )
    with pytest.raises(ValueError, match=r'1 has 16 -> 32 .*expected 16 -> 1'):
        mmkdna.form_families(model)
    assert model[0].weight is not None


def test_reduction_larger_than_a_childs_input_is_refused(build):
    with pytest.raises(ValueError, match=r'0\.0.*reduction=32.*16 input'):
        build(2, reduction=32)


def test_one_log_line_says_how_many_and_what_they_save(build, log):
    model = build(5, channels=64)
    line = next(m for m in log.messages if 'families' in m)
    plain = MODELS.build(dict(type='Stages', depths=[5], channels=64))
    ours, theirs = (
        sum(p.numel() for p in m.parameters()) for m in (model, plain)
    )
    assert '2 families, 2 children' in line
    assert f'{ours:,} parameters instead of {theirs:,}' in line
    assert f'-{1 - ours / theirs:.1%}' in line


def test_conv_cfg_without_a_family_warns_with_the_nearest_misses(build, log):
    build(1, 1, 1, strided=True)
    build(1, channels=12)
    build(2, family_size=3)
    build(1)
    strided, narrow, short, alone = [
        r.message for r in log.records if r.levelname == 'WARNING'
    ]
    assert 'stages.0.0.conv.conv: stride 2x2' in strided
    assert '12 channels, min_channels=16' in narrow
    assert 'fewer than family_size=3' in short
    assert 'alone with its shape in its stage' in alone


def test_nearest_miss_comes_first(log):
    cfg = dict(type='KernelDNA', min_channels=16)
    model = nn.Sequential(
        build_conv_layer(cfg, 8, 8, 3, stride=2),
        build_conv_layer(cfg, 8, 8, 3),
        build_conv_layer(cfg, 16, 16, 3),
    )
    mmkdna.form_families(model)
    message = log.messages[-1]
    assert message.index('2: alone') < message.index('1: 8 channels')
    assert message.index('1: 8 channels') < message.index('0: stride')


def test_report_says_role_parent_and_parameters(build):
    model = build(3, channels=64)
    report = mmkdna.report(model)
    free, child, parent = report.rows
    assert [r.role for r in report.rows] == ['free', 'child', 'parent']
    assert child.parent == parent.name
    assert child.shape == (64, 64, 3, 3)
    kernel = 64 * 64 * 9
    assert parent.parameters == free.parameters == kernel
    # s, f; squeeze; LayerNorm; excite with its bias
    assert child.parameters == 9 + 64 + 64 * 16 + 32 + 16 * 64 + 64
    assert child.plain_parameters == kernel
    assert report.parameters == sum(p.numel() for p in model.parameters())


def test_families_of_a_part_name_the_parent_outside(build):
    model = build(2)
    (family,) = mmkdna.list_families(model.stages[0][0])
    assert family.parent.name == '(outside)'
    assert family.parent.module is model.stages[0][1].conv.conv
