"""Checkpoints are read whole and safely, and written whole."""

import codecs
import os

import numpy as np
import pytest
import torch
from helpers import Hostile

from mmkdna.checkpoint import read_checkpoint, read_weights, write_weights
from mmkdna.errors import BadInput


@pytest.mark.parametrize('ending', ['pth', 'safetensors'])
def test_a_truncated_file_is_said_to_be_damaged(tmp_path, ending):
    path = tmp_path / f'weights.{ending}'
    write_weights(dict(weight=torch.randn(100, 100)), str(path), {})
    whole = path.read_bytes()
    for size in (0, 10, len(whole) // 2):
        path.write_bytes(whole[:size])
        with pytest.raises(BadInput, match='damaged'):
            read_weights(str(path))


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('mmkdna.checkpoint.torch.save', full)
    with pytest.raises(OSError, match='No space'):
        write_weights({}, str(tmp_path / 'kdna.pth'), {})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ('function', 'arguments'),
    [
        (codecs.decode, (b'6d', 'hex')),
        (codecs.lookup, ('hex',)),
        (eval, ('1 + 1',)),
        (getattr, (np.ndarray, 'tofile')),
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
