"""tools/convert_checkpoint.py and what it refuses to read."""

import importlib.util
import os
from pathlib import Path

import pytest
import torch
from helpers import ROOT, Hostile
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from safetensors import safe_open

import mmkdna
from mmkdna.checkpoint import read_weights
from mmkdna.errors import BadInput
from mmkdna.measure.configs import build_model, twin_of

CONFIG = ROOT / 'configs/digits/adopted_r18.py'


@pytest.fixture(scope='module')
def convert():
    spec = importlib.util.spec_from_file_location(
        'convert_checkpoint', ROOT / 'tools/convert_checkpoint.py'
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def convert(source, target, *options):
        module.main([str(source), str(CONFIG), str(target), *options])

    return convert


@pytest.fixture(scope='module')
def plain():
    return build_model(twin_of(Config.fromfile(CONFIG)))


@pytest.fixture
def source(plain, tmp_path):
    """A plain checkpoint as mmengine's runner saves it."""
    path = tmp_path / 'plain.pth'
    log = {'train/loss': HistoryBuffer([1.0, 0.5], [1, 1])}
    message_hub = dict(log_scalars=log, runtime_info={}, resumed_keys={})
    torch.save(
        dict(
            state_dict=plain.state_dict(),
            meta=dict(epoch=1),
            message_hub=message_hub,
        ),
        path,
    )
    return path


@pytest.fixture
def twin():
    return build_model(Config.fromfile(CONFIG))


@pytest.mark.parametrize('ending', ['safetensors', 'pth'])
def test_written_weights_load_as_they_are(
    convert, plain, source, twin, tmp_path, capsys, ending
):
    target = tmp_path / 'made' / f'kdna.{ending}'
    convert(source, target)
    out = capsys.readouterr().out
    weights = read_weights(str(target))
    assert set(weights) == set(twin.state_dict())
    assert str(twin.load_state_dict(weights)).startswith('<All keys matched')
    state = plain.state_dict()
    rows = {
        words[0]: words[1:]
        for line in out.splitlines()
        if (words := line.split())
    }
    for family in mmkdna.list_families(twin):
        parent = state[f'{family.parent.name}.weight']
        for child, layer in family.children:
            assert torch.equal(layer.kernel(), parent)
            own = state[f'{child}.weight']
            error = float((own - parent).norm() / own.norm())
            assert rows[child] == [family.parent.name, f'{error:.3f}']
    assert os.listdir(target.parent) == [target.name]


def test_the_config_is_noted(convert, source, tmp_path):
    convert(source, tmp_path / 'kdna.safetensors')
    with safe_open(tmp_path / 'kdna.safetensors', 'pt') as file:
        assert "type='KernelDNA'" in file.metadata()['config']


def test_weights_of_kernel_dna_stay_what_they_are(
    convert, twin, tmp_path, capsys
):
    for parameter in twin.parameters():
        torch.nn.init.normal_(parameter)
    torch.save(twin.state_dict(), tmp_path / 'own.pth')
    convert(tmp_path / 'own.pth', tmp_path / 'again.pth')
    assert 'off its own kernel' not in capsys.readouterr().out
    again = read_weights(str(tmp_path / 'again.pth'))
    for name, value in twin.state_dict().items():
        assert torch.equal(again[name], value), name


def test_the_weights_of_a_backbone_alone_become_its_own(
    convert, plain, tmp_path, capsys
):
    source, target = tmp_path / 'backbone.pth', tmp_path / 'kdna.pth'
    torch.save(
        {**plain.backbone.state_dict(), 'fc.bias': torch.ones(3)}, source
    )
    convert(source, target)
    assert 'no place in the model: fc.bias' in capsys.readouterr().out
    twin = build_model(Config.fromfile(CONFIG)).backbone
    weights = read_weights(str(target))
    assert str(twin.load_state_dict(weights)).startswith('<All keys matched')


def not_finite(state):
    state['backbone.layer1.0.conv1.weight'][0, 0] = torch.inf
    return state


def cut(state):
    key = 'backbone.layer4.1.conv1.weight'
    state[key] = state[key][:7]
    return state


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            lambda state: dict(
                state_dict=state, x=Hostile(os.system, 'touch hacked')
            ),
            'posix.system',
        ),
        (not_finite, r'backbone\.layer1\.0\.conv1\.weight is NaN or inf'),
        (cut, r'layer4\.1\.conv1\.weight: \(7, 256, 3, 3\).*\(256, 256'),
        (lambda state: [1, 2], 'holds no state dict'),
        (lambda state: {}, 'holds no state dict'),
        (
            lambda state: torch.nn.Linear(2, 2).state_dict(),
            'another architecture',
        ),
    ],
)
def test_what_cannot_be_adopted_is_refused_and_nothing_written(
    convert, plain, tmp_path, monkeypatch, change, message
):
    monkeypatch.chdir(tmp_path)
    state = {key: value.clone() for key, value in plain.state_dict().items()}
    torch.save(change(state), 'bad.pth')
    Path('there.pth').write_text('as it was')
    with pytest.raises(BadInput, match=message):
        convert('bad.pth', 'there.pth')
    assert Path('there.pth').read_text() == 'as it was'
    assert sorted(os.listdir()) == ['bad.pth', 'there.pth']


@pytest.mark.parametrize('target', ['/proc/x/a.pth', 'plain.pth/a.pth'])
def test_what_cannot_be_written_is_said(convert, source, tmp_path, target):
    with pytest.raises(BadInput, match='a.pth cannot be written: '):
        convert(source, tmp_path / target)


def test_a_folder_in_the_files_place_is_said(convert, source, tmp_path):
    (tmp_path / 'a.pth').mkdir()
    with pytest.raises(BadInput, match='a.pth cannot be written: it is a fo'):
        convert(source, tmp_path / 'a.pth')
    assert sorted(os.listdir(tmp_path)) == ['a.pth', 'plain.pth']


def test_an_unknown_ending_and_a_missing_file_are_named(
    convert, source, tmp_path
):
    with pytest.raises(BadInput, match=r'ends in \.safetensors or \.pth'):
        convert(source, tmp_path / 'kdna.bin')
    with pytest.raises(FileNotFoundError, match='nowhere.pth'):
        convert(tmp_path / 'nowhere.pth', tmp_path / 'kdna.pth')
