"""tools/test.py: what it cannot score or write is named."""

import pytest
from helpers import DIGITS


def test_checkpoint_that_does_not_exist_is_named(tool):
    with pytest.raises(FileNotFoundError, match='nothing.pth'):
        tool('test').main([DIGITS, 'nothing.pth'])


def test_dump_must_be_a_pickle(tool, capsys):
    with pytest.raises(SystemExit):
        tool('test').main([DIGITS, 'x.pth', '--out', 'x.json'])
    assert 'ends in .pkl' in capsys.readouterr().err
