"""Tables of what was measured."""

from collections.abc import Callable, Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from ..report import Report
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
    heads = [head for head, _ in columns]
    table = new_table(
        'conv type', numbers=heads, title=title, markdown=markdown
    )
    for name, row in rows.items():
        if not {'seconds', 'saved'} & set(row):
            name = f'{name}: out of memory'
        table.add_row(name, *(text(row) for _, text in columns))
    return table


def new_table(
    *columns: str,
    numbers: Iterable[str] = (),
    title: str | None = None,
    caption: str | None = None,
    markdown: bool = False,
) -> Table:
    """A table without rows, in Markdown or without a frame.

    Args:
        *columns: Titles of the columns of text; what is long is folded.
        numbers: Titles of the columns of numbers, on the right.
        title: Text above it.
        caption: Text below it.
        markdown: Whether it is Markdown.
    """
    table = Table(
        box=box.MARKDOWN if markdown else None,
        padding=(0, 1) if markdown else (0, 1, 0, 0),
        pad_edge=markdown,
        title=title,
        title_justify='left',
        caption=caption,
        caption_justify='left',
    )
    for head in columns:
        table.add_column(head, overflow='fold')
    for head in numbers:
        table.add_column(head, justify='right', overflow='fold')
    return table


def report_table(report: Report) -> Table:
    """The members of a model's families, and the model's totals."""
    saved = report.plain_parameters - report.parameters
    table = new_table(
        *('layer', 'role', "a child's parent", 'kernel'),
        numbers=('parameters',),
        caption=f'The whole model: {report.parameters:,} parameters, '
        f'{report.plain_parameters:,} if it were plain: {saved:,} '
        f'({saved / report.plain_parameters:.1%}) saved by '
        f'{len(report.families)} families.',
    )
    for row in report.rows:
        table.add_row(
            row.name,
            row.role,
            row.parent,
            'x'.join(map(str, row.shape)),
            f'{row.parameters:,}',
            style={'parent': 'green', 'child': 'cyan'}.get(row.role),
        )
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


def print_table(table: Table, markdown: bool = False) -> None:
    """Print a table; one in Markdown is for a file, however wide."""
    Console(width=200 if markdown else None).print(table)
