"""What the log says where no family forms."""

from helpers import conv, formed, stages
from mmengine.registry import MODELS
from torch import nn

import mmkdna


def test_where_the_convs_that_could_share_get_nothing_the_log_leads_on(log):
    MODELS.build(dict(type='mmdet.CSPNeXt', conv_cfg=dict(type='KernelDNA')))
    assert 'could share, such as stage4' in log.messages[-1]
    assert 'kernel_dna=dict(...) reaches them' in log.messages[-1]


def test_where_only_linear_layers_could_share_the_log_says_how(log):
    MODELS.build(dict(type='TakesNoConvCfg', kernel_dna=dict()))
    assert 'It has 2 linear layers' in log.messages[-1]
    assert 'kernel_dna=dict(linear=True' in log.messages[-1]


def test_where_no_family_forms_the_log_says_the_nearest_misses(build, log):
    build(1, 1, 1, strided=True)
    build(1, channels=12)
    build(2, family_size=3)
    build(1)
    strided, narrow, short, only = [
        r.message for r in log.records if r.levelname == 'WARNING'
    ]
    assert 'stages.0.0.conv.conv: stride 2x2' in strided
    assert '12 channels, min_channels=16' in narrow
    assert 'fewer than family_size=3' in short
    assert 'the only one of its shape' in only


def test_a_part_that_has_none_of_the_listed_layers_is_named(log):
    families = [['stages.1.0', 'stages.0.0']]
    one, other = stages(families, (1, 1)), stages(families)
    MODELS.build(dict(type='Pair', one=one, other=other))
    assert 'No family forms in other' in log.messages[-1]
    assert 'conv: none of the names in families' in log.messages[-1]


def test_the_nearest_miss_comes_first(log):
    cfg = dict(min_channels=16)
    formed(conv(8, layer=dict(stride=2), **cfg), conv(8, **cfg), conv(**cfg))
    message = log.messages[-1]
    assert message.index('2: the only') < message.index('1: 8 channels')
    assert message.index('1: 8 channels') < message.index('0: stride')


def test_layers_of_one_shape_in_a_tree_are_not_called_alone(log):
    """DLA-34: no sequence holds the convs of its trees."""

    class Tree(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right, self.root = conv(), conv(), conv()

    mmkdna.form_families(Tree())
    assert 'left: one of 3 of its shape, but no nn.Seq' in log.messages[-1]
    assert 'list them in families' in log.messages[-1]
    assert 'only one' not in log.messages[-1]
