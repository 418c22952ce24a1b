"""tools/get_flops.py: a row of costs, and the size that it asks for."""

import pytest
from helpers import DIGITS, ROOT

from mmkdna.errors import BadInput


def test_the_size_is_asked_for_as_it_is_parsed(tool):
    no_size = ['--cfg-options', 'test_dataloader.dataset.pipeline=[]']
    with pytest.raises(BadInput, match='--size HEIGHTxWIDTH'):
        tool('get_flops').main([DIGITS, *no_size])


def test_costs_of_a_config_and_its_twin_are_a_row(tool, capsys):
    small = ['--size', '32x32', '--markdown']
    tool('get_flops').main([str(ROOT / 'configs/digits/kdna_r18.py'), *small])
    (row,) = [s for s in capsys.readouterr().out.splitlines() if '%' in s]
    cells = [cell.strip() for cell in row.strip('| ').split('|')]
    assert cells[1] == '32x32'
    assert float(cells[2]) < float(cells[3])
