"""What a conv_cfg may say."""

import pytest
from mmcv.cnn import build_conv_layer

from mmkdna.layers import Policy


@pytest.mark.parametrize(
    ('argument', 'value', 'expected'),
    [
        ('family_size', 1, 'int of at least 2'),
        ('family_size', 0, 'int of at least 2'),
        ('family_size', 2.0, 'int of at least 2'),
        ('family_size', True, 'int of at least 2'),
        ('family_size', [], 'int of at least 2'),
        ('family_size', [2, 1], 'int of at least 2'),
        ('family_size', '2', 'int of at least 2'),
        ('parent', 'middle', "'last', 'first'"),
        ('parent', None, "'last', 'first'"),
        ('min_channels', 0, 'int of at least 1'),
        ('min_channels', '256', 'int of at least 1'),
        ('min_channels', False, 'int of at least 1'),
        ('kernel_sizes', 3, 'list of ints'),
        ('kernel_sizes', [], 'list of ints'),
        ('kernel_sizes', [0], 'list of ints'),
        ('kernel_sizes', [[3, 3]], 'list of ints'),
        ('reduction', 0, 'int of at least 1'),
        ('reduction', 1.5, 'int of at least 1'),
        ('norm', 'GN', "'LN', 'BN', None"),
        ('norm', 0, "'LN', 'BN', None"),
        ('gate', 'softmax', "'identity', 'sigmoid'"),
        ('gate', None, "'identity', 'sigmoid'"),
        ('align', 1, 'True or False'),
        ('align', None, 'True or False'),
        ('families', 'layer1', 'list of lists'),
        ('families', [], 'list of lists'),
        ('families', ['a', 'b'], 'list of lists'),
        ('families', [[1, 2]], 'list of lists'),
        ('families', [['a']], 'at least two names'),
        ('families', [['a', 'b'], ['b', 'c']], 'listed twice'),
        ('families', [['a', 'a']], 'listed twice'),
    ],
)
def test_argument_out_of_range_is_named(argument, value, expected):
    cfg = {'type': 'KernelDNA', argument: value}
    with pytest.raises(ValueError, match=argument) as caught:
        build_conv_layer(cfg, 16, 16, 3)
    assert expected in str(caught.value)


def test_unknown_argument_comes_with_the_nearest_known():
    with pytest.raises(ValueError, match='did you mean family_size'):
        build_conv_layer(dict(type='KernelDNA', famly_size=2), 16, 16, 3)


def test_lists_of_a_config_make_equal_and_hashable_policies():
    one = Policy(family_size=[3, 2], kernel_sizes=[3], families=[['a', 'b']])
    two = Policy(family_size=(3, 2), kernel_sizes=(3,), families=(('a', 'b'),))
    assert one == two
    assert len({one, two}) == 1


def test_text_is_the_conv_cfg_that_makes_it():
    policy = Policy(family_size=3, norm=None)
    cfg = eval(str(policy))
    assert cfg.pop('type') == 'KernelDNA'
    assert Policy.from_conv_cfg(cfg) == policy
