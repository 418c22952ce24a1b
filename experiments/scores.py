"""Scores of several runs beside size and time: a table and a picture."""

import statistics
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from results import mean_and_spread
from rich.console import Console
from rich.table import Table

from mmkdna.files import write_text
from mmkdna.measure.configs import PLAIN
from mmkdna.measure.pictures import save
from mmkdna.measure.rows import Rows
from mmkdna.measure.show import Text, as_table, number, quartiles

Point = tuple[float, float, float, float]


def scores_table(rows: Rows) -> Table:
    """A table of times, and of the ``scores`` of one run for each seed."""
    ratio, spread = number('ratio', '.2f'), quartiles(' ({:.2f} to {:.2f})')

    def score(title: str) -> tuple[str, Text]:
        return title, lambda row: mean_and_spread(row['scores'][title])

    columns = (
        ('parameters, M', number('parameters', '.2f', 1e6)),
        ('multiply-adds, M', number('multiply_adds', '.1f', 1e6)),
        ('step, ratio (quartiles)', lambda row: ratio(row) + spread(row)),
        *map(score, rows[PLAIN]['scores']),
    )
    return as_table(rows, columns)


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


def draw_points(
    panels: Mapping[str, Mapping[str, Point]],
    what: str,
    path: str | Path,
    scale: str,
) -> None:
    """Draw points with error bars over the number of parameters.

    Args:
        panels: For each title the points by their names: parameters, value,
            lower end and upper end of the error bar.
        what: Label of the vertical axis.
        path: PNG file to write.
        scale: Of the vertical axis: ``'linear'`` or ``'log'``.
    """
    figure = Figure((6.5 * len(panels), 4.5), dpi=110, layout='constrained')
    (axes,) = figure.subplots(1, len(panels), squeeze=False)
    for axis, (title, points) in zip(axes, panels.items(), strict=True):
        for name, (parameters, y, low, high) in points.items():
            x = parameters / 1e6
            axis.errorbar(x, y, [[y - low], [high - y]], fmt='o', capsize=3)
            where = dict(xytext=(8, 5), textcoords='offset points')
            axis.annotate(name, (x, y), fontsize=8, **where)
        axis.margins(x=0.3, y=0.15)
        axis.set(xlabel='parameters, millions', ylabel=what)
        axis.set(xscale='log', yscale=scale)
        axis.set_title(title.replace(', ', '\n', 1), fontsize=9)
        logarithmic = [axis.xaxis]
        if scale == 'log':
            axis.axhline(1, color='grey', linewidth=0.8, linestyle=':')
            logarithmic.append(axis.yaxis)
        for one in logarithmic:
            low, high = one.get_view_interval()
            few = (1, 2, 5), (1, 1.2, 1.5, 2, 3, 5, 7)
            one.set_major_locator(LogLocator(subs=few[high < 20 * low]))
            one.set_major_formatter('{x:g}')
            one.set_minor_formatter('')
    save(figure, path)


def as_text(table: Table) -> str:
    """A table as text; its lines are not wrapped."""
    console = Console(width=250)
    with console.capture() as capture:
        console.print(table)
    return f'{capture.get().strip()}\n'


def write_table(table: Table, path: Path) -> str:
    """Write a table to a file; return the text."""
    text = as_text(table)
    write_text(text, path)
    return text
