"""The rows of a comparison as a table and as a picture."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from rich import box
from rich.console import Console
from rich.table import Table

from ..files import write_text, written_beside
from .configs import PLAIN
from .rows import Row, Rows

Text = Callable[[Row], str]
Point = tuple[float, float, float, float]


def number(key: str, style: str, unit: float = 1) -> Text:
    """How a number of a row is written; not at all where there is none."""
    return lambda row: f'{row[key] / unit:{style}}' if key in row else ''


def quartiles(style: str) -> Text:
    """How the quartiles of a row's ratio are written."""
    key = 'quartiles'
    return lambda row: style.format(*row[key]) if key in row else ''


def as_table(
    rows: Rows,
    columns: Sequence[tuple[str, Text]],
    title: str | None = None,
    markdown: bool = True,
) -> Table:
    """A line for each row, which says where memory ran out."""
    table = Table(
        title=title,
        title_justify='left',
        box=box.MARKDOWN if markdown else box.SIMPLE,
        padding=(0, 1) if markdown else (0, 1, 0, 0),
    )
    table.add_column('conv type', no_wrap=True)
    for head, _ in columns:
        table.add_column(head, justify='right', overflow='fold')
    for name, row in rows.items():
        if not {'seconds', 'saved'} & set(row):
            name = f'{name}: out of memory'
        table.add_row(name, *(text(row) for _, text in columns))
    return table


def figures_table(title: str, rows: Rows, markdown: bool) -> Table:
    """A table of :func:`~mmkdna.measure.rows.measured`."""
    columns = [('M params', number('parameters', '.2f', 1e6))]
    timed = any('seconds' in row for row in rows.values())
    if timed:
        columns += [
            ('G madds', number('multiply_adds', '.2f', 1e9)),
            ('ms', number('seconds', '.1f', 1e-3)),
            ('ratio', number('ratio', '.3f')),
            ('(quartiles)', quartiles('({:.2f}-{:.2f})')),
        ]
    for key in ('saved', 'peak'):
        if base := rows[PLAIN].get(key):
            columns += [
                (f'{key} MB', number(key, '.1f', 1e6)),
                ('ratio', number(key, '.3f' if timed else '.4f', base)),
            ]
    return as_table(rows, columns, title, markdown)


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


def draw_times(panels: Mapping[str, Rows], path: str) -> None:
    """Parameters against the ratio of times, a panel for each table."""
    points = {
        title: {
            name: (row['parameters'], row['ratio'], *row['quartiles'])
            for name, row in rows.items()
            if 'ratio' in row
        }
        for title, rows in panels.items()
    }
    _draw(points, 'time over the plain one (quartiles)', path, 'log')


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
    _draw({title: points}, what, path, 'linear')


def _draw(
    panels: Mapping[str, Mapping[str, Point]],
    what: str,
    path: str | Path,
    scale: str,
) -> None:
    """Points by their names: parameters, a value, its low and its high."""
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


def save(figure: Figure, path: str | Path) -> None:
    """Write a PNG, whole."""
    with written_beside(path) as beside:
        figure.savefig(beside, format='png')


def as_text(table: Table) -> str:
    """A table as wide as it is."""
    console = Console(width=250)
    with console.capture() as capture:
        console.print(table)
    return f'{capture.get().strip()}\n'


def write_table(table: Table, path: Path) -> str:
    """Write a table whole; what the file holds."""
    text = as_text(table)
    write_text(text, path)
    return text
