"""Scores of several runs beside size and time: a table and a picture."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from mmkdna.files import write_text
from mmkdna.measure.configs import PLAIN
from mmkdna.measure.rows import Rows
from mmkdna.measure.show import (
    Text,
    as_table,
    as_text,
    draw_points,
    number,
    quartiles,
)


def scores_table(rows: Rows) -> Table:
    """A table of times, and of the ``scores`` of one run for each seed."""
    ratio, spread = number('ratio', '.2f'), quartiles(' ({:.2f} to {:.2f})')

    def score(title: str) -> tuple[str, Text]:
        return title, lambda row: _mean_and_spread(row['scores'][title])

    columns = (
        ('parameters, M', number('parameters', '.2f', 1e6)),
        ('multiply-adds, M', number('multiply_adds', '.1f', 1e6)),
        ('step, ratio (quartiles)', lambda row: ratio(row) + spread(row)),
        *map(score, rows[PLAIN]['scores']),
    )
    return as_table(rows, columns)


def _mean_and_spread(values: Sequence[float]) -> str:
    spread = f' ± {statistics.stdev(values):.2f}' if len(values) > 1 else ''
    return f'{statistics.mean(values):.2f}{spread}'


def draw_scores(rows: Rows, title: str, path: Path) -> None:
    """Parameters against the first score, with the ratio of a step's time."""
    score, points = next(iter(rows[PLAIN]['scores'])), {}
    for name, row in rows.items():
        if 'parameters' in row:
            values = row['scores'][score]
            mean = statistics.mean(values)
            spread = statistics.stdev(values) if len(values) > 1 else 0
            name += f' ({row["ratio"]:.2f})' if 'ratio' in row else ''
            low, high = mean - spread, mean + spread
            points[name] = (row['parameters'], mean, low, high)
    title = f'{title}\n(in brackets: time of a training step over plain)'
    what = f'{score}, percent (mean, standard deviation)'
    draw_points({title: points}, what, path, 'linear')


def write_table(table: Table, path: Path) -> str:
    """Write a table to a file; return the text."""
    text = as_text(table)
    write_text(text, path)
    return text
