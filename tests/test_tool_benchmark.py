"""tools/benchmark.py: what it times, prints and refuses."""

import json
import sys

import pytest
import torch
from helpers import ROOT
from matplotlib.image import imread

from mmkdna.errors import BadInput
from mmkdna.measure.configs import (
    CONV_TYPES,
)
from mmkdna.peers import ODConv2d

sys.path.insert(0, str(ROOT / 'experiments'))

import draw_times

CLASSIFIER = str(ROOT / 'configs/digits/kdna_r18.py')
SMALL = ('--size', '32x32', '--rounds', '2', '--device', 'cpu')


def test_a_layer_is_timed_with_every_type(tool, capsys, tmp_path):
    out, png = tmp_path / 'times.json', tmp_path / 'times.png'
    tool('benchmark').main(
        [
            *('--layer', '16x16x3', '--markdown', *SMALL),
            *('--json', str(out)),
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
    draw_times.main([str(out), str(png)])
    assert imread(png).std() > 0.01


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


def test_what_is_shipped_is_timed_beside_the_plain_one_fused(tool, tmp_path):
    out = tmp_path / 'times.json'
    kind = 'KernelDNA,min_channels=512'
    names = ['--backbone', 'resnet18', '--types', kind, '--baked']
    tool('benchmark').main([*names, *SMALL, '--json', str(out)])
    ((title, rows),) = json.loads(out.read_text()).items()
    assert title.startswith('resnet18, baked and fused, forward, batch 2')
    plain, ours = rows['plain'], rows[kind]
    assert len(ours['rounds']) == 2
    # A child has its own kernel and a gate: 512 to 128 channels and back.
    gate = 2 * 512 * 128 + 512 + 2 * 128
    assert ours['parameters'] == plain['parameters'] + gate


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
    with pytest.raises(BadInput, match='no times to draw'):
        draw_times.main([str(out), 'unused.png'])


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
        ([CLASSIFIER, '--baked', '--modes', 'step'], '--baked: expected no'),
        ([CLASSIFIER, '--baked', '--saved'], '--baked: expected no other'),
    ],
)
def test_a_wrong_argument_is_named(tool, capsys, arguments, message):
    with pytest.raises(SystemExit):
        tool('benchmark').main(arguments)
    assert message in capsys.readouterr().err
