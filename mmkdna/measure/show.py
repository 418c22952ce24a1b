"""Tables of what was measured."""

from collections.abc import Callable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from .configs import PLAIN
from .rows import Row, Rows

Text = Callable[[Row], str]


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


def list_table(caption: str, *columns: str) -> Table:
    """A table without a frame, for lists of layers.

    Args:
        caption: Text below it.
        columns: Titles of the columns; long names in them are folded.
    """
    table = Table(
        box=None,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        caption=caption,
        caption_justify='left',
    )
    for title in columns:
        table.add_column(title, overflow='fold')
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


def as_text(table: Table) -> str:
    """A table as text; its lines are not wrapped."""
    console = Console(width=250)
    with console.capture() as capture:
        console.print(table)
    return f'{capture.get().strip()}\n'
