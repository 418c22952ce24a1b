"""experiments/scores.py: a table and a picture."""

import sys

from helpers import ROOT
from matplotlib.image import imread

sys.path.insert(0, str(ROOT / 'experiments'))

from scores import draw_scores, scores_table, write_table


def test_what_memory_does_not_hold_has_a_row(tmp_path):
    scores = {'accuracy': [50.0, 52.0]}
    row = dict(parameters=10**6, multiply_adds=10**6, scores=scores)
    timed = dict(seconds=1.0, ratio=1.0, quartiles=(1.0, 1.0))
    rows = {
        'plain': dict(row, **timed),
        'ODConv': row,
        'FDConv': dict(scores=scores),
    }
    table = write_table(scores_table(rows), tmp_path / 'table.md')
    assert table.count('out of memory') == 2
    assert table.count('51.00 ± 1.41') == 3
    draw_scores(rows, 'two', tmp_path / 'two.png')
    assert imread(tmp_path / 'two.png').std() > 0.01
