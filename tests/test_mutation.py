"""Code that is changed, to see whether tests fail."""

import json
import sys

import pytest
from helpers import ROOT, run

sys.path.insert(0, str(ROOT / 'experiments'))
pytestmark = pytest.mark.mutation

MODULE = '''"""A module of "texts"."""

from math import prod

__all__ = ['size']
Shape = tuple[int, ...]


def size(shape: Shape, least: int = 1) -> int | None:
    """The product."""
    if not shape:
        raise ValueError('expected a shape of one axis or more')
    return prod(shape)
'''


def test_what_runs_is_changed_and_what_is_read_is_not(tmp_path):
    from mutants import mutants

    path = tmp_path / 'module.py'
    path.write_text(MODULE)
    found = mutants(path)
    changed = {
        after
        for mutant in found
        for before, after in zip(
            MODULE.splitlines(), mutant.source.splitlines(), strict=True
        )
        if before != after
    }
    assert changed == {
        'def size(shape: Shape, least: int = 2) -> int | None:',
        '    if shape:',
        '    if not (not shape):',
        '        pass',
        '        raise ValueError(None)',
        '    pass',
        '    return prod(None)',
    }
    assert {m.scope for m in found if not m.runs_on_import} == {'size'}
    # Another function does not change the names of these.
    path.write_text(MODULE + '\n\ndef one():\n    return 1\n')
    assert {m.key for m in found if m.scope} <= {m.key for m in mutants(path)}


def test_all_mutants_of_a_module_are_killed(tmp_path):
    command = [sys.executable, ROOT / 'experiments/mutation.py']
    said = run([*command, '--only', 'layers/kin', '--out', tmp_path], tmp_path)
    assert said.splitlines()[-1] == '15 killed, 0 survived, 0 timed out'
    lines = (tmp_path / 'results.jsonl').read_text().splitlines()
    assert len(lines) == 15
    assert all('tests/' in json.loads(line)['by'] for line in lines)
