"""Checkpoints are read whole and safely, and written whole."""

import codecs
import pickletools
import zipfile

import numpy as np
import pytest
import torch
from helpers import Hostile
from safetensors.torch import load
from tiny_runner import FILES, run
from torch import nn

import mmkdna
from mmkdna.checkpoint import (
    METADATA,
    VERSION,
    packed,
    read_checkpoint,
    read_weights,
    write_weights,
)
from mmkdna.errors import BadInput
from mmkdna.zoo import load_tensors_only


@pytest.mark.parametrize('ending', ['pth', 'safetensors'])
def test_a_truncated_file_is_said_to_be_damaged(tmp_path, ending):
    path = tmp_path / f'weights.{ending}'
    write_weights(dict(weight=torch.randn(100, 100)), str(path), {})
    whole = path.read_bytes()
    for size in (0, 10, len(whole) // 2):
        path.write_bytes(whole[:size])
        with pytest.raises(BadInput, match='damaged'):
            read_weights(str(path))


@pytest.mark.parametrize('content', [b'Q.', b'\x80\x02R.', b'h\x00.', b'0.'])
def test_bytes_that_are_no_pickle_are_said_to_be_damaged(tmp_path, content):
    path = tmp_path / 'weights.pth'
    path.write_bytes(content)
    with pytest.raises(BadInput, match='is damaged or no checkpoint'):
        read_checkpoint(str(path))


def test_equal_weights_and_notes_give_equal_bytes():
    weights = {name: torch.randn(3) for name in 'abc'}
    notes = {name: f'of {name} \u00e9' for name in 'abcdefgh'}
    one = packed(weights, notes)
    other = packed(weights, dict(reversed(notes.items())))
    assert one == other
    for name, tensor in load(one).items():
        assert tensor.equal(weights[name])


def stage(**settings):
    convs = [nn.Conv2d(8, 8, 3, bias=False) for _ in range(4)]
    return mmkdna.convert(nn.Sequential(*convs), min_channels=8, **settings)


PAIRS = [['0', '1'], ['2', '3']]


@pytest.mark.parametrize('ending', ['pth', 'safetensors'])
def test_a_file_knows_its_families_and_gates(tmp_path, ending, log):
    ours = stage(families=PAIRS)
    for family in mmkdna.list_families(ours):
        for _, child in family.children:
            nn.init.normal_(child.adapter.routing.excite)
    path = str(tmp_path / f'weights.{ending}')
    write_weights(ours.state_dict(), path, {})
    weights = read_weights(path)
    twin, gated = stage(families=PAIRS), stage(families=PAIRS, gate='sigmoid')
    # The same parents and children, in other pairs.
    swapped = stage(families=[['0', '3'], ['2', '1']])
    log.clear()
    twin.load_state_dict(weights)
    assert not log.text
    x = torch.randn(1, 8, 12, 12)
    assert twin(x).equal(ours(x))
    with pytest.raises(BadInput, match="'identity' in the checkpoint"):
        gated.load_state_dict(weights)
    swapped.load_state_dict(weights)
    assert '2 children start with their parent' in log.text


@pytest.mark.parametrize('noted', ['3', '[]', '{"": 3}', '{'])
def test_families_that_are_no_families_are_damage(tmp_path, noted):
    path = str(tmp_path / 'weights.safetensors')
    write_weights({'a': torch.ones(3)}, path, {METADATA: noted})
    with pytest.raises(BadInput, match='damaged'):
        read_weights(path)


def test_notes_are_read_back(tmp_path):
    notes = {name: f'of {name} \u00e9' for name in 'abcdefgh'}
    write_weights({'a': torch.ones(3)}, f'{tmp_path}/a.safetensors', notes)
    read = read_checkpoint(f'{tmp_path}/a.safetensors')
    assert read['meta'] == {'format': 'pt', VERSION: '2', **notes}


def test_a_version_that_is_no_number_is_none(tmp_path):
    path = f'{tmp_path}/a.safetensors'
    write_weights({'a': torch.ones(3)}, path, {VERSION: 'late'})
    assert read_weights(path)['a'].equal(torch.ones(3))


@pytest.mark.parametrize(
    ('function', 'arguments'),
    [
        (codecs.decode, (b'6d', 'hex')),
        (codecs.lookup, ('hex',)),
        (eval, ('1 + 1',)),
        (getattr, (np.ndarray, 'tofile')),
        # What numpy restores an array by under a later pickle protocol.
        (np.zeros(1).__reduce_ex__(5)[0], (b'1234', 'f4', (1,), 'C')),
    ],
)
def test_no_function_is_called_beside_those_of_the_runner(
    tmp_path, function, arguments
):
    path = tmp_path / 'trap.pth'
    trap = Hostile(function, *arguments)
    torch.save({'state_dict': {}, 'meta': trap}, path)
    with pytest.raises(BadInput, match=f'calls .*{function.__name__}, and'):
        read_checkpoint(str(path))


def functions_called(path):
    """What the pickle of a checkpoint imports."""
    with zipfile.ZipFile(path) as file:
        (name,) = (n for n in file.namelist() if n.endswith('data.pkl'))
        operations = [*pickletools.genops(file.read(name))]
    return {
        argument.replace(' ', '.')
        for operation, argument, _ in operations
        if operation.name == 'GLOBAL'
    }


@pytest.mark.parametrize(
    ('written', 'core'), [('numpy1', 'numpy.core'), ('numpy2', 'numpy._core')]
)
def test_a_run_of_either_stack_resumes_on_this_one(tmp_path, written, core):
    path = FILES / f'runner_{written}.pth'
    names = {'scalar', '_reconstruct'}
    expected = {f'{core}.multiarray.{name}' for name in names}
    assert expected <= functions_called(path)

    load_tensors_only()
    resumed = run(tmp_path / written, 2, load_from=str(path), resume=True)
    whole = run(tmp_path / 'whole', 2)
    assert resumed.iter == 4
    assert resumed.model.slope == whole.model.slope
    read, expected = (
        runner.message_hub.get_scalar('train/loss')
        for runner in (resumed, whole)
    )
    for got, at_once in zip(read.data, expected.data, strict=True):
        np.testing.assert_array_equal(got, at_once)
    assert read.mean() == expected.mean()
