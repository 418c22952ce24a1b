"""Rewrite the tables of `docs/model_zoo.md` from the index of the zoo.

Example: python docs/zoo_tables.py
"""

from collections.abc import Iterable
from pathlib import Path

from mmkdna.cli import exit_on_bad_input
from mmkdna.files import put_between, write_text
from mmkdna.zoo.index import Entry, read_index

PAGE = Path(__file__).with_name('model_zoo.md')

BEGIN, END = '<!-- from the index -->', '<!-- end of the index -->'

_COST = {
    'parameters, M': ('Parameters', 1e6),
    'multiply-adds, G': ('Multiply-adds', 1e9),
}
_TABLES = {
    'trained': (
        'Trained',
        ('name', 'config', *_COST, 'metrics', 'data set', 'MB', 'log'),
    ),
    'derived': ('Derived', ('name', 'made from', 'for the backbone of')),
    'not trained yet': (
        'Recipes, not trained yet',
        ('name', 'config', 'data set', *_COST),
    ),
}
"""For each state a title, and the columns."""


def _cells(entry: Entry) -> dict[str, str]:
    """All that a table may say of an entry, by column."""
    known = entry.metadata
    config = f'[{entry.config}](../{entry.config})'
    tested = '; '.join(str(r.get('Dataset', '')) for r in entry.results)
    cells = {
        'name': f'`{entry.name}`',
        'config': config,
        'for the backbone of': config,
        'made from': f'`{entry.source}`',
        'metrics': entry.metrics,
        'data set': tested or str(known.get('Training Data', '')),
        'MB': f'{entry.size / 1e6:.1f}',
    }
    if 'Training Log' in known:
        cells['log'] = f'[log](../{known["Training Log"]})'
    for column, (key, unit) in _COST.items():
        if key in known:
            cells[column] = f'{known[key] / unit:.2f}'
    return cells


def markdown(entries: Iterable[Entry]) -> str:
    """One table for each state that an entry can be in."""
    lines = []
    for state, (title, columns) in _TABLES.items():
        rows = [
            [_cells(entry).get(column, '') for column in columns]
            for entry in entries
            if entry.state == state
        ]
        if rows:
            # Names on the left, numbers on the right.
            right = {*_COST, 'MB'}
            marks = ['---:' if c in right else '---' for c in columns]
            lines += [f'## {title}', '']
            lines += [f'| {" | ".join(r)} |' for r in (columns, marks, *rows)]
            lines.append('')
    return '\n'.join(lines)


def rewritten(page: str, entries: Iterable[Entry]) -> str:
    """A page with what is between its two marks made anew.

    Raises:
        BadInput: If it does not have the marks.
    """
    return put_between(page, BEGIN, END, f'\n\n{markdown(entries)}\n')


def main(_: object = None, page: Path = PAGE) -> None:
    text = page.read_text(encoding='utf-8')
    write_text(rewritten(text, read_index().values()), page)


if __name__ == '__main__':
    exit_on_bad_input(main)
