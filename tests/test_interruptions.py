"""Commands that are killed, and a training that is resumed again and again."""

import sys

import pytest
from helpers import ROOT, run


@pytest.mark.slow
def test_nothing_is_lost_in_a_few_kills(tmp_path):
    script = ROOT / 'experiments/interruptions.py'
    said = run([sys.executable, script, '--count', 14, '--seed', 1], tmp_path)
    assert said.splitlines()[-1].startswith('14 kills, ')
    assert ' 0 lost, 0 half-written, ' in said


@pytest.mark.slow
def test_a_resumed_training_does_not_grow(tmp_path):
    script = ROOT / 'experiments/soak.py'
    command = [sys.executable, script, '--steps', 240, '--resumes', 5]
    said = run(command, tmp_path)
    assert 'grows' not in said
    assert said.count('{') == 6
