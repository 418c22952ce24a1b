"""The rows of a comparison as a table and as a picture."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from .picture import annotate, plain_numbers, save
from .rows import Rows
from .switch import PLAIN

NO_MEMORY = 'out of memory'


def saved_table(title: str, rows: Rows, markdown: bool) -> Table:
    """A table of :func:`~mmkdna.measure.rows.saved_rows`."""
    table = _empty_table(title, ('M params', 'saved MB', 'ratio'), markdown)
    base = rows[PLAIN]['bytes']
    for name, row in rows.items():
        used = row['bytes']
        if used is None:
            table.add_row(f'{name}: {NO_MEMORY}')
            continue
        table.add_row(
            name,
            f'{row["parameters"] / 1e6:.2f}',
            f'{used / 1e6:.1f}',
            f'{used / base:.4f}' if base else '',
        )
    return table


def times_table(title: str, rows: Rows, markdown: bool, gpu: bool) -> Table:
    """A table of :func:`~mmkdna.measure.rows.timed_rows`."""
    used_by = f'{"peak" if gpu else "saved"} MB'
    table = _empty_table(
        title,
        (
            'M params',
            'G madds',
            'ms',
            'ratio',
            '(quartiles)',
            used_by,
            'ratio',
        ),
        markdown,
    )
    base = rows[PLAIN].get('bytes')
    for name, row in rows.items():
        if row['seconds'] is None:
            table.add_row(f'{name}: {NO_MEMORY}')
            continue
        used = row['bytes']
        quartiles = row['quartiles']
        table.add_row(
            name,
            f'{row["parameters"] / 1e6:.2f}',
            f'{row["multiply_adds"] / 1e9:.2f}',
            f'{1000 * row["seconds"]:.1f}',
            f'{row["ratio"]:.3f}' if row['ratio'] else '',
            '({:.2f}-{:.2f})'.format(*quartiles) if quartiles else '',
            '' if used is None else f'{used / 1e6:.1f}',
            f'{used / base:.3f}' if used and base else '',
        )
    return table


def draw(panels: Mapping[str, Rows], path: str) -> None:
    """Parameters against the ratio of times, a panel for each table."""
    figure = Figure(figsize=(6 * len(panels), 4.5), layout='constrained')
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (title, rows) in zip(axes, panels.items(), strict=True):
        for name, row in rows.items():
            if row['seconds'] is None or row['ratio'] is None:
                continue
            low, high = row['quartiles']
            ratio, millions = row['ratio'], row['parameters'] / 1e6
            spread = [[ratio - low], [high - ratio]]
            axis.errorbar(millions, ratio, spread, fmt='o', capsize=3)
            # Smaller than plain is left of it, and so is its name.
            smaller = row['parameters'] < rows[PLAIN].get('parameters', 0)
            annotate(axis, name, millions, ratio, left=smaller)
        axis.axhline(1, color='grey', linewidth=0.8, linestyle=':')
        axis.margins(x=0.3, y=0.12)
        axis.set(
            xscale='log',
            yscale='log',
            title=title.replace(', ', '\n', 1),
            xlabel='parameters, millions',
            ylabel='time over the plain one (quartiles)',
        )
        axis.title.set_fontsize(9)
        plain_numbers(axis.xaxis)
        plain_numbers(axis.yaxis)
    save(figure, path)


def _empty_table(title: str, columns: Sequence[str], markdown: bool) -> Table:
    table = Table(
        title=title,
        title_justify='left',
        box=box.MARKDOWN if markdown else box.SIMPLE,
        padding=(0, 1) if markdown else (0, 1, 0, 0),
    )
    table.add_column('conv type', no_wrap=True)
    for column in columns:
        table.add_column(column, justify='right')
    return table
