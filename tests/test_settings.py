"""What a conv_cfg may say."""

import dataclasses
import logging

import pytest
import torch
from mmcv.cnn import build_conv_layer

import mmkdna
import mmkdna.layers.settings
from mmkdna.errors import BadInput
from mmkdna.layers import Settings


@pytest.mark.parametrize(
    ('argument', 'value', 'expected'),
    [
        ('family_size', 1, 'int of at least 2'),
        ('family_size', 0, 'int of at least 2'),
        ('family_size', 2.0, 'int of at least 2'),
        ('family_size', True, 'int of at least 2'),
        ('family_size', (), 'int of at least 2'),
        ('family_size', (2, 1), 'int of at least 2'),
        ('family_size', '2', 'int of at least 2'),
        ('parent', 'middle', "'last', 'first'"),
        ('parent', None, "'last', 'first'"),
        ('min_channels', 0, 'int of at least 1'),
        ('min_channels', '256', 'int of at least 1'),
        ('min_channels', False, 'int of at least 1'),
        ('kernel_sizes', 3, 'list of ints'),
        ('kernel_sizes', (), 'list of ints'),
        ('kernel_sizes', (0,), 'list of ints'),
        ('kernel_sizes', ((3, 3),), 'list of ints'),
        ('reduction', 0, 'int of at least 1'),
        ('reduction', 1.5, 'int of at least 1'),
        ('norm', 'GN', "'LN', 'BN', None"),
        ('norm', 0, "'LN', 'BN', None"),
        ('gate', 'softmax', "'identity', 'sigmoid'"),
        ('gate', None, "'identity', 'sigmoid'"),
        ('families', 'layer1', 'list of lists'),
        ('families', (), 'list of lists'),
        ('families', ('a', 'b'), 'list of lists'),
        ('families', ((1, 2),), 'list of lists'),
        ('families', (('a',),), 'two or more layer names'),
        ('families', (('a', 'b'), ('b', 'c')), 'each name once'),
        ('families', (('a', 'a'),), 'each name once'),
    ],
)
def test_an_error_names_argument_value_and_what_is_expected(
    argument, value, expected
):
    cfg = {'type': 'KernelDNA', argument: value}
    with pytest.raises(BadInput) as caught:
        build_conv_layer(cfg, 16, 16, 3)
    assert f'{argument}={value!r}: expected ' in str(caught.value)
    assert expected in str(caught.value)
    # As a list, too, as a config has it.
    if isinstance(value, tuple):
        with pytest.raises(BadInput, match=expected):
            Settings(**{argument: list(value)})


def test_an_unknown_argument_comes_with_the_nearest_known():
    with pytest.raises(
        BadInput, match='^conv_cfg of KernelDNA: famly_size=2'
    ) as caught:
        build_conv_layer(dict(type='KernelDNA', famly_size=2), 16, 16, 3)
    assert 'did you mean family_size' in str(caught.value)
    for field in dataclasses.fields(Settings):
        assert field.name in str(caught.value)


@pytest.mark.parametrize('name', ['align', 'cache_kernels'])
def test_a_deleted_argument_is_ignored_and_warned_about_once(name, log):
    mmkdna.layers.settings._say_deleted.cache_clear()
    layers = [
        build_conv_layer({'type': 'KernelDNA', name: value}, 16, 16, 3)
        for value in (True, False, 'whatever')
    ]
    assert {layer.kernel_dna for layer in layers} == {Settings()}
    (said,) = (r for r in log.records if name in r.getMessage())
    assert said.levelno == logging.WARNING
    assert f'{name} is ignored' in said.getMessage()
    assert 'delete it' in said.getMessage()


def test_lists_of_a_config_make_equal_and_hashable_settings():
    one = Settings(family_size=[3, 2], kernel_sizes=[3], families=[['a', 'b']])
    two = Settings(
        family_size=(3, 2), kernel_sizes=(3,), families=(('a', 'b'),)
    )
    assert one == two
    assert len({one, two}) == 1
    assert one != Settings(family_size=[2, 3], kernel_sizes=[3])


def test_settings_do_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().reduction = 8


def test_text_is_the_conv_cfg_that_makes_it():
    settings = Settings(family_size=3, norm=None)
    text = str(settings)
    assert text == "dict(type='KernelDNA', family_size=3, norm=None)"
    cfg = eval(text)
    del cfg['type']
    assert Settings.of(cfg) == settings
    assert str(Settings()) == "dict(type='KernelDNA')"


@pytest.mark.parametrize('wrong', [dict(groups=3), dict(padding='full')])
def test_a_convolution_that_cannot_be_is_refused_as_a_plain_one(wrong):
    said = []
    for cfg in (dict(type='KernelDNA', min_channels=1), None):
        with pytest.raises(ValueError, match='.') as caught:
            build_conv_layer(cfg, 16, 16, 3, **wrong)
        said.append(str(caught.value))
    assert said[0] == said[1]


def test_a_built_layer_is_the_plain_one_with_settings():
    cfg = dict(type='KernelDNA', min_channels=1, gate='sigmoid')
    layer = build_conv_layer(cfg, 16, 8, 3, padding=1, bias=False)
    assert type(layer) is torch.nn.Conv2d
    assert layer.kernel_dna == Settings(min_channels=1, gate='sigmoid')
    assert layer.bias is None
    assert layer.padding == (1, 1)


@pytest.mark.parametrize(('channels', 'count'), [(255, 0), (256, 1)])
def test_by_default_wide_layers_share_and_squeeze_to_a_quarter(
    channels, count
):
    cfg = dict(type='KernelDNA')
    layers = (build_conv_layer(cfg, channels, channels, 3) for _ in '12')
    model = torch.nn.Sequential(*layers)
    assert len(mmkdna.form_families(model)) == count
    if count:
        assert model[0].adapter.routing.squeeze.shape == (64, 256)
