"""The benchmark and the comparison: what they time, count and refuse."""

import json
from functools import partial

import pytest
import torch
from helpers import ROOT, perturb_adapters
from matplotlib.image import imread
from mmengine.config import Config
from torch import nn

import mmkdna
from mmkdna.errors import BadInput
from mmkdna.measure.configs import (
    CONV_TYPES,
    build_model,
    parse_conv_type,
    twin_of,
)
from mmkdna.measure.rows import equalise, interleave, saved_bytes
from mmkdna.measure.subjects import (
    Conditions,
    backbone_subject,
    config_subject,
    layer_subject,
    switch_convs,
)
from mmkdna.peers import TYPES, DynamicConv2d, ODConv2d

CLASSIFIER = str(ROOT / 'configs/digits/kdna_r18.py')
SMALL = ('--size', '32x32', '--rounds', '2', '--device', 'cpu')


def test_a_layer_is_timed_with_every_type(tool, capsys, tmp_path):
    out, png = tmp_path / 'times.json', tmp_path / 'times.png'
    tool('benchmark').main(
        [
            *('--layer', '16x16x3', '--markdown', *SMALL),
            *('--json', str(out), '--png', str(png)),
        ]
    )
    tables = json.loads(out.read_text())
    assert [title.split(', ')[1] for title in tables] == [
        'forward',
        'backward',
    ]
    printed = capsys.readouterr().out
    for title, rows in tables.items():
        assert list(rows) == ['plain', *CONV_TYPES]
        for name, row in rows.items():
            assert f'| {name} ' in printed
            assert len(row['rounds']) == 2
            low, high = row['quartiles']
            assert 0 < low <= row['ratio'] <= high
            assert ('saved' in row) == ('backward' in title)
        plain, ours = rows['plain'], rows['KernelDNA']
        assert plain['ratio'] == 1
        # Two convs of 16 x 16 x 3 x 3; one of them for both.
        assert plain['parameters'] == 2 * 16 * 16 * 9
        assert ours['parameters'] < 0.6 * plain['parameters']
        assert plain['multiply_adds'] == 16 * 16 * 9 * 32 * 32
    assert imread(png).std() > 0.01


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


def test_the_model_of_a_config_is_timed(tool, capsys):
    types = ['KernelDNA', 'ODConv,experts=2']
    modes = ['forward', 'backward', 'step']
    tool('benchmark').main(
        [CLASSIFIER, *SMALL, '--types', *types, '--modes', *modes]
    )
    out = ' '.join(capsys.readouterr().out.split())
    for mode in modes:
        title = f'kdna_r18, {mode}, batch 2, 32x32, cpu, float32, 2 rounds'
        assert title in out
    assert out.count('ODConv,experts=2') == 3


def test_a_backbone_of_torchvision_in_half_precision():
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


def test_what_a_forward_saves_is_counted():
    conv = nn.Conv2d(4, 4, 3, padding=1)
    x = torch.randn(2, 4, 8, 8)

    def forward():
        return conv(x).relu().relu().sum()

    # The input of the conv and the results of both ReLU; no parameter.
    assert saved_bytes(conv, forward) == 3 * x.nbytes


def test_a_child_saves_its_input_once():
    how = Conditions(2, (16, 16))
    plain, child = (
        layer_subject((32, 32, 3), conv_cfg, how)
        for conv_cfg in (None, dict(type='KernelDNA'))
    )
    base = saved_bytes(plain.model, plain.loss)
    x = 4 * 2 * 32 * 16 * 16
    assert x <= base < x + 1000
    # What is of the adapter; neither the gated input nor the derived kernel.
    assert base < saved_bytes(child.model, child.loss) < base + 10_000


@pytest.mark.parametrize('name', ['maskrcnn', 'retinanet'])
def test_what_a_detector_keeps_is_printed(
    tool, name, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(ROOT)
    config, out = f'configs/digits/kdna_{name}_r18.py', tmp_path / 'saved.json'
    arguments = ['--saved', '--size', '64x96', '--json', str(out)]
    tool('benchmark').main([config, *arguments])
    ((title, rows),) = json.loads(out.read_text()).items()
    assert title.startswith(f'digits/kdna_{name}_r18, saved, batch 2, 64x96, ')
    ours, plain = rows['KernelDNA']['saved'], rows['plain']['saved']
    # Gates and norms of the size of an image's channels, no map.
    assert plain < ours < 1.01 * plain
    assert f'{ours / plain:.4f}' in capsys.readouterr().out


def test_a_twin_gets_the_function_that_it_is_beside():
    how = Conditions(2, (64, 64))
    cfg = Config.fromfile(ROOT / 'configs/digits/kdna_maskrcnn_r18.py')
    plain = config_subject(cfg, None, how)
    ours = config_subject(cfg, dict(type='KernelDNA'), how)

    def loss(subject):
        torch.manual_seed(0)
        return subject.loss()

    assert not loss(plain).allclose(loss(ours))
    assert equalise(plain.model, ours.model)
    torch.testing.assert_close(loss(plain), loss(ours))
    perturb_adapters(ours.model)
    assert not equalise(plain.model, ours.model)


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


def test_rounds_change_their_order_and_memory_may_run_out():
    order = []

    def large():
        order.append('large')
        torch.empty(1 << 60)

    runs = {name: partial(order.append, name) for name in 'ab'}
    times = interleave({**runs, 'large': large}, rounds=2)
    assert order == ['large', *'baabbaab']
    assert set(times) == {'a', 'b'}
    assert len(times['a']) == len(times['b']) == 2
    with pytest.raises(RuntimeError, match='of another kind'):
        interleave({'a': _fail}, 1)


def _fail():
    raise RuntimeError('of another kind')


def test_a_type_that_does_not_fit_is_a_row(tool, monkeypatch, capsys):
    forward = ODConv2d.forward

    def too_large(self, x):
        if not x.is_meta:
            torch.empty(1 << 60)
        return forward(self, x)

    monkeypatch.setattr(ODConv2d, 'forward', too_large)
    types = ['ODConv', 'CondConv']
    tool('benchmark').main(['--layer', '16x16x3', *SMALL, '--types', *types])
    out = capsys.readouterr().out
    assert out.count('out of memory') == 2
    for line in out.splitlines():
        assert ('ODConv' in line) == ('out of memory' in line)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--backbone', 'resnet19'], 'resnet19: torchvision has no such'),
        (['--backbone', 'resnet18', '--types', 'OD'], "no conv type 'OD'"),
        (
            ['--backbone', 'resnet18', '--types', 'ODConv,experts'],
            "'experts': expected argument=value",
        ),
        (
            ['--backbone', 'resnet18', '--types', 'ODConv,experts=0'],
            'experts=0: expected an int of at least 1',
        ),
        (['--backbone', 'resnet18', '--device', 'tpu'], '--device tpu:'),
        (['--backbone', 'resnet18', '--device', 'cuda:99'], 'cuda:99: exp'),
    ],
)
def test_what_cannot_be_timed_is_named(tool, arguments, message):
    with pytest.raises(BadInput, match=message):
        tool('benchmark').main([*arguments, '--rounds', '2'])


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ([], 'nothing to time'),
        (['--layer', '16x16'], '--layer: 16x16: expected CINxCOUTxK'),
        (['--layer', '16x16x3'], 'expected --size of its input'),
        (['--layer', '16x16x3', '--size', '50'], '50: expected HEIGHTxWIDTH'),
        (['--layer', '16x16x3', '--size', '0x5'], '0x5: expected HEIGHTxWID'),
        (['--rounds', '1'], '1: expected a whole number of at least 2'),
        (['--batch', 'two'], 'two: expected a whole number of at least 1'),
        ([CLASSIFIER, '--saved', '--png', 'a'], '--saved --png: expected one'),
    ],
)
def test_a_wrong_argument_is_named(tool, capsys, arguments, message):
    with pytest.raises(SystemExit):
        tool('benchmark').main(arguments)
    assert message in capsys.readouterr().err


def test_types_are_parsed():
    assert parse_conv_type('plain') is None
    assert parse_conv_type('ODConv,experts=4,norm=LN') == dict(
        type='ODConv', experts=4, norm='LN'
    )
    assert parse_conv_type('KernelDNA,kernel_sizes=(1,)') is not None


def test_a_type_that_a_config_brings_is_known(monkeypatch):
    monkeypatch.setitem(TYPES, 'Mine', ODConv2d)
    assert parse_conv_type('Mine,experts=2') == dict(type='Mine', experts=2)


def test_kernel_dna_alone_is_the_config_as_it_is():
    cfg = Config.fromfile(CLASSIFIER)
    assert twin_of(cfg, dict(type='KernelDNA')).model == cfg.model
    other = twin_of(cfg, dict(type='KernelDNA', min_channels=64)).model
    assert other.backbone.conv_cfg.min_channels == 64


@pytest.mark.parametrize('kind', CONV_TYPES[1:])
def test_one_word_of_the_config_switches_the_type(kind):
    cfg = twin_of(Config.fromfile(CLASSIFIER), dict(type=kind))
    model = build_model(cfg)
    dynamic = [m for m in model.modules() if isinstance(m, DynamicConv2d)]
    assert {m.kind for m in dynamic} == {kind}
    assert type(model.backbone.stem[0].conv) is nn.Conv2d
    assert not mmkdna.list_families(model)


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
