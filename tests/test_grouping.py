"""Which layers form families, by the rule and by name."""

from collections import OrderedDict

import pytest
import torch
from helpers import conv, formed, stages
from mmcv.cnn import ConvModule, build_conv_layer
from mmengine.registry import MODELS
from torch import nn

import mmkdna
from mmkdna.errors import BadInput
from mmkdna.families import group_families, sites
from mmkdna.layers import KernelDNAConv2d


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


@pytest.mark.parametrize('family_size', [None, 2, [2]])
def test_a_layer_whose_neighbours_share_further_in_stays_plain(family_size):
    alone, *others = (conv(family_size=family_size) for _ in range(3))
    assert formed(alone, nn.Sequential(*others)) == ['1.0 <- 1.1']
    assert type(alone) is nn.Conv2d


def test_what_is_left_over_or_strided_is_exactly_the_plain_layer(build, names):
    model = build(4, strided=True)
    assert names(model) == ['0.2 <- 0.3']
    rest = model.stages[0][:2]
    assert [type(block.conv.conv) for block in rest] == [nn.Conv2d] * 2


def test_layers_that_differ_in_shape_settings_or_groups_do_not_mix():
    assert formed(
        conv(),
        conv(reduction=2),
        conv(8),
        conv(16, size=5),
        conv(32, 16, layer=dict(groups=2)),
        conv(16),
    ) == ['0 <- 5']


def test_channels_below_min_channels_stay_out():
    assert formed(conv(min_channels=17), conv(min_channels=17)) == []
    depthwise = [
        conv(64, layer=dict(groups=64), min_channels=2) for _ in range(2)
    ]
    assert formed(*depthwise) == []


def test_kernel_sizes_choose_what_is_shared():
    def layers(**settings):
        return [conv(32, size=k, **settings) for k in (1, 1, 3, 3, 5, 5)]

    assert formed(*layers()) == ['2 <- 3', '4 <- 5']
    assert formed(*layers(kernel_sizes=[5])) == ['4 <- 5']
    # A 1x1 kernel outweighs its adapter at a larger reduction only.
    assert formed(*layers(kernel_sizes=[1], reduction=8)) == ['0 <- 1']


def test_families_come_in_order_of_depth_with_their_layers():
    settings = {
        'dc': {},
        'zy': dict(families=[['z', 'y']]),
        'ba': dict(reduction=2),
        'xw': dict(families=[['x', 'w']]),
    }
    model = nn.Sequential(
        OrderedDict(
            (name, conv(**one))
            for names, one in settings.items()
            for name in names
        )
    )
    found = [family.members for family in group_families(sites(model))]
    assert found == [
        tuple((name, getattr(model, name)) for name in reversed(names))
        for names in settings
    ]
    mmkdna.form_families(model)
    assert [f.members for f in mmkdna.list_families(model)] == found


def test_frozen_and_trained_layers_do_not_mix():
    model = nn.Sequential(*(conv() for _ in range(5)))
    model[:3].requires_grad_(False)
    families = list(map(str, mmkdna.form_families(model)))
    assert families == ['1 <- 2', '3 <- 4']
    trained = [p.requires_grad for p in model[1].adapter.parameters()]
    assert trained == [False] * len(trained)


def test_one_layer_under_two_places_is_one_layer():
    layer = conv()
    assert formed(layer, layer) == []
    assert formed(layer, conv(), layer) == ['0 <- 1']


def test_grouping_touches_nothing():
    model = nn.Sequential(*(conv() for _ in range(4)))
    before = [(n, id(p)) for n, p in model.named_parameters()]
    assert len(group_families(sites(model))) == 2
    assert [(n, id(p)) for n, p in model.named_parameters()] == before
    assert {type(layer) for layer in model} == {nn.Conv2d}


@pytest.mark.parametrize(
    ('settings', 'layer'),
    [
        (dict(), dict(groups=64)),
        (dict(kernel_sizes=[1], reduction=2), dict()),
    ],
    ids=['depthwise', 'pointwise'],
)
def test_adapters_that_outweigh_their_kernels_form_by_name_alone(
    log, settings, layer
):
    size = 1 if 'kernel_sizes' in settings else 3

    def layers(**more):
        return [
            conv(64, size=size, layer=layer, **settings, **more) for _ in '12'
        ]

    assert formed(*layers()) == []
    assert 'its adapter would have' in log.messages[-1]
    log.clear()
    assert formed(*layers(families=[['0', '1']])) == ['0 <- 1']
    (warning,) = [r for r in log.records if r.levelname == 'WARNING']
    assert '0 as a child: its adapter would have' in warning.message
    assert 'Leave it out' in warning.message


def test_list_of_sizes_that_does_not_fit_is_refused(build):
    with pytest.raises(BadInput, match=r'stages\.1: family_size=\[3, 2\]'):
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
    part = stages([['stages.0.1.conv', 'stages.0.0.conv']])
    model = MODELS.build(dict(type='Pair', one=part, other=part))
    expected = [
        f'{name}.stages.0.1.conv.conv <- {name}.stages.0.0.conv.conv'
        for name in ('one', 'other')
    ]
    assert list(map(str, mmkdna.list_families(model))) == expected
    assert list(map(str, mmkdna.form_families(model))) == expected


def test_names_that_a_part_cannot_resolve_wait_for_the_module_around():
    part = stages([['one.stages.0.1', 'other.stages.0.0']])
    model = MODELS.build(dict(type='Pair', one=part, other=part))
    assert list(map(str, mmkdna.list_families(model))) == [
        'one.stages.0.1.conv.conv <- other.stages.0.0.conv.conv'
    ]


def test_a_neck_given_as_a_list_has_names_of_its_own():
    from mmdet.registry import MODELS as MMDET

    fpn = dict(
        type='mmdet.FPN',
        in_channels=[16, 16],
        out_channels=16,
        num_outs=2,
        conv_cfg=dict(
            type='KernelDNA',
            families=[['fpn_convs.0.conv', 'fpn_convs.1.conv']],
        ),
    )
    bfp = dict(type='mmdet.BFP', in_channels=16, num_levels=2, refine_level=0)
    neck = MMDET.build([fpn, bfp])
    assert list(map(str, mmkdna.list_families(neck))) == [
        '0.fpn_convs.0.conv <- 0.fpn_convs.1.conv'
    ]
    x = [torch.randn(1, 16, size, size) for size in (8, 4)]
    assert [y.shape for y in neck(x)] == [y.shape for y in x]


def test_names_form_in_a_part_that_came_later():
    names = [['0', '1']]
    model = nn.ModuleDict(dict(one=nn.Sequential(*map(conv_of, [names] * 3))))
    assert len(mmkdna.form_families(model)) == 1
    model['other'] = nn.Sequential(*map(conv_of, [names] * 2))
    found = list(map(str, mmkdna.form_families(model)))
    assert found == ['one.0 <- one.1', 'other.0 <- other.1']


@pytest.mark.parametrize(
    ('families', 'message'),
    [
        ([['stages.0.7', 'stages.0.1']], r"0\.7' is unknown.*0\.2\.conv"),
        ([['stages.0', 'stages.0.1']], "'stages.0' holds several layers"),
        ([['stages.0.1', 'stages.0.1.conv.conv']], 'listed twice'),
    ],
)
def test_a_wrong_name_is_refused(build, families, message):
    with pytest.raises(BadInput, match=message):
        build(3, families=families)


def test_an_unknown_name_comes_with_three_of_its_module():
    part = stages([['x', 'stages.0.1']], (5,))
    other = dict(type='TakesNoConvCfg')
    with pytest.raises(BadInput, match="'x' is unknown") as caught:
        MODELS.build(dict(type='Pair', one=part, other=other))
    near = str(caught.value).partition('relative to one, such as ')[2]
    assert near.count('stages.0.') == len(near.split(', ')) == 3
    assert 'one.stages' not in near


def test_one_layer_in_two_families_is_refused(build):
    pairs = [['stages.0.0', 'stages.0.1'], ['stages.0.2', 'stages.0.1.conv']]
    with pytest.raises(BadInput, match='listed twice'):
        build(3, families=pairs)


def conv_of(names):
    return conv(families=names)


def listed(*others, **layer):
    names = [['0', '1']]
    return nn.Sequential(
        conv(families=names), conv(*others, families=names, layer=layer)
    )


@pytest.mark.parametrize(
    ('model', 'message'),
    [
        (
            listed(16, 32),
            '1 has 16 -> 32 channels, kernel 3x3, groups 1, expected 16 -> 16',
        ),
        (listed(groups=2), '1 has .*groups 2, expected .*groups 1'),
        (
            nn.Sequential(
                *(
                    ConvModule(
                        16,
                        16,
                        3,
                        conv_cfg=dict(type='KernelDNA', families=[['0', '1']]),
                        with_spectral_norm=i == 1,
                    )
                    for i in range(2)
                )
            ),
            'its weight is parametrised',
        ),
    ],
    ids=['shape', 'groups', 'spectral norm'],
)
def test_listed_layers_that_cannot_share_are_refused(model, message):
    before = dict(model.named_parameters())
    with pytest.raises(BadInput, match=message):
        mmkdna.form_families(model)
    assert dict(model.named_parameters()).keys() == before.keys()


def test_listed_layers_of_which_one_is_frozen_are_refused():
    model = listed()
    model[0].requires_grad_(False)
    with pytest.raises(BadInput, match='one is frozen and one is trained'):
        mmkdna.form_families(model)


def test_a_mistake_in_one_family_leaves_none_half_done():
    names = [['0', '1'], ['2', '3']]
    model = nn.Sequential(
        *(conv(families=names) for _ in range(3)), conv(8, families=names)
    )
    with pytest.raises(BadInput, match='3 has 8 -> 8'):
        mmkdna.form_families(model)
    assert {type(layer) for layer in model} == {nn.Conv2d}


@pytest.mark.parametrize('gate', ['identity', 'sigmoid'])
def test_reduction_larger_than_a_childs_input_is_refused(build, gate):
    with pytest.raises(BadInput, match=r'0\.0.*reduction=32.*16 input'):
        build(2, reduction=32, gate=gate)


def test_a_model_that_is_one_layer_forms_nothing():
    layer = conv()
    assert mmkdna.form_families(layer) == []
    with pytest.raises(BadInput, match='the only one of its shape'):
        mmkdna.convert(nn.Conv2d(16, 16, 3), min_channels=1)


@pytest.mark.parametrize(
    ('conv', 'why'),
    [
        (dict(stride=2), 'strided'),
        (dict(kernel_size=1), 'pointwise'),
        (dict(out_channels=8), 'narrow'),
        (dict(groups=16), 'depthwise'),
    ],
)
def test_a_conv_that_is_in_no_family_stays_a_conv2d(conv, why):
    arguments = dict(in_channels=16, out_channels=16, kernel_size=3)
    cfg = dict(type='KernelDNA', min_channels=16)
    for change, cls in ((conv, nn.Conv2d), ({}, KernelDNAConv2d)):
        model = nn.Sequential(
            *(
                build_conv_layer(cfg, **{**arguments, **change})
                for _ in range(2)
            )
        )
        mmkdna.form_families(model)
        assert {type(layer) for layer in model} == {cls}, why
