"""Tables and pictures of what was measured."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from rich import box
from rich.console import Console
from rich.table import Table

from ..files import written_beside
from .configs import PLAIN
from .rows import Row, Rows

Text = Callable[[Row], str]
Point = tuple[float, float, float, float]


def number(key: str, style: str, unit: float = 1) -> Text:
    """A function that writes a number of a row; '' if the row lacks it."""
    return lambda row: f'{row[key] / unit:{style}}' if key in row else ''


def quartiles(style: str) -> Text:
    """A function that writes the quartiles of a row; '' without them."""
    key = 'quartiles'
    return lambda row: style.format(*row[key]) if key in row else ''


def as_table(
    rows: Rows,
    columns: Sequence[tuple[str, Text]],
    title: str | None = None,
    markdown: bool = True,
) -> Table:
    """A table with a line for each row.

    A row without a time ran out of memory, and its line says so.
    """
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
    """The table of what :func:`~mmkdna.measure.rows.measured` returns."""
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


def draw_times(panels: Mapping[str, Rows], path: str) -> None:
    """Draw the ratio of times over parameters, a panel for each table."""
    points = {
        title: {
            name: (row['parameters'], row['ratio'], *row['quartiles'])
            for name, row in rows.items()
            if 'ratio' in row
        }
        for title, rows in panels.items()
    }
    draw_points(points, 'time over the plain one (quartiles)', path, 'log')


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


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure to a PNG file."""
    with written_beside(path) as beside:
        figure.savefig(beside, format='png')


def as_text(table: Table) -> str:
    """A table as text; its lines are not wrapped."""
    console = Console(width=250)
    with console.capture() as capture:
        console.print(table)
    return f'{capture.get().strip()}\n'
