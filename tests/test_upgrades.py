"""A file of each form that was ever written loads for good.

Each holds a ResNet-18 of 4 base channels, halved, and what the code that
wrote it computed of a fixed input.

version_0: the first commit; a routing held linear layers.
version_1: the first release; a gate's bias is ``excite_bias``.
version_1_mid_fade: of plain weights that had faded by half; what a child
    computes when they are gone.
version_2: the names of now.
"""

import pytest
import torch
from helpers import ROOT
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import load_checkpoint
from weights_for import R18, build, off, outputs, randomise

import mmkdna
from mmkdna.checkpoint import VERSION, read_checkpoint, write_weights
from mmkdna.errors import BadInput

FILES = ROOT / 'tests/files'
ALL = '<All keys matched successfully>'
ARGUMENTS = {'version_1_batch_norm': dict(norm='BN', gate='sigmoid')}


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmdet')


def read(path):
    """The state dict of a file, and what it computed when it was written."""
    loaded = read_checkpoint(str(path))
    state, meta = loaded['state_dict'], loaded['meta']
    # A safetensors file's metadata is text.
    expected = meta['output'] if 'output' in meta else state.pop('output')
    return state, expected


def of(path):
    model = build(R18, **ARGUMENTS.get(path.stem, {}))
    return mmkdna.bake(randomise(model)) if 'baked' in path.stem else model


@pytest.mark.parametrize(
    'path', sorted(FILES.glob('version_*')), ids=lambda p: p.name
)
def test_each_form_loads_and_computes_what_it_did(path):
    state, expected = read(path)
    model = of(path)
    assert str(model.load_state_dict(state)) == ALL
    assert off(outputs(model, 2, 3, 32, 32), expected) < 1e-5


def test_every_form_has_its_file():
    assert {path.name for path in FILES.glob('version_*')} == {
        'version_0.pth',
        'version_1.pth',
        'version_1_batch_norm.safetensors',
        'version_1_mid_fade.pth',
        'version_2.pth',
        'version_2.safetensors',
        'version_2_baked.safetensors',
    }


@pytest.mark.parametrize('name', ['version_0.pth', 'version_1.pth'])
def test_a_gate_of_before_is_not_lost_in_a_plain_network(name):
    """A child with a gate has no place there, whatever its entries' names."""
    state, _ = read(FILES / name)
    model = mmkdna.revert(build(R18))
    with pytest.raises((BadInput, RuntimeError), match=r'layer3\.1\.conv1'):
        model.load_state_dict(state)
    families = [['layer3.1.conv1', 'layer3.1.conv2']]
    model = build(R18, families=families)
    with pytest.raises(BadInput, match=r'layer4\.1\.conv1'):
        model.load_state_dict(state)


def test_the_prefix_of_a_detector_changes_nothing(tmp_path):
    state, expected = read(FILES / 'version_0.pth')
    backbone = {f'backbone.{key}': value for key, value in state.items()}
    torch.save({'state_dict': backbone}, tmp_path / 'detector.pth')
    detector = torch.nn.ModuleDict(dict(backbone=build(R18)))
    load_checkpoint(detector, str(tmp_path / 'detector.pth'), strict=True)
    found = outputs(detector.backbone, 2, 3, 32, 32)
    assert off(found, expected) < 1e-5


@pytest.mark.parametrize('ending', ['pth', 'safetensors'])
def test_a_file_says_its_version_and_a_later_one_is_refused(tmp_path, ending):
    state, path = build(R18).state_dict(), str(tmp_path / f'a.{ending}')
    write_weights(state, path, {})
    assert read_checkpoint(path)['meta'][VERSION] == '2'
    write_weights(state, path, {VERSION: '3'})
    with pytest.raises(BadInput, match='of version 3 .* use a later mmkdna'):
        read_checkpoint(path)


def test_a_state_dict_says_its_version_and_a_later_one_is_refused():
    model = build(R18)
    state = model.state_dict()
    key = 'layer4.1.conv1.adapter.routing'
    assert state._metadata[key]['version'] == 2
    state._metadata[key]['version'] = 3
    with pytest.raises(BadInput, match=f'^{key} is of version 3'):
        model.load_state_dict(state)


def test_the_keys_are_those_of_the_plain_network_and_of_adapters():
    plain = MODELS.build(dict(R18)).state_dict()
    ours = build(R18).state_dict()
    assert {key for key in ours if '.adapter.' not in key} < set(plain)
    assert {key.partition('.adapter.')[2] for key in ours} == {
        '',
        'static.filter',
        'static.spatial',
        'routing.squeeze',
        'routing.excite',
        'routing.bias',
        'routing.norm.weight',
        'routing.norm.bias',
    }
