"""The tables of docs/model_zoo.md, from the index."""

from collections.abc import Callable

from ..errors import BadInput
from .index import Entry, Index

BEGIN, END = '<!-- from the index -->', '<!-- end of the index -->'


def metrics(entry: Entry) -> str:
    """What was measured of an entry, on a line."""
    return '; '.join(
        ', '.join(f'{key} {value}' for key, value in result['Metrics'].items())
        for result in entry.results
        if result.get('Metrics')
    )


def _count(key: str, unit: float) -> Callable[[Entry], str]:
    def count(entry: Entry) -> str:
        number = entry.metadata.get(key)
        return f'{number / unit:.2f}' if number else ''

    return count


def _datasets(entry: Entry) -> str:
    return '; '.join(str(r.get('Dataset', '')) for r in entry.results)


def _log(entry: Entry) -> str:
    log = entry.metadata.get('Training Log')
    return f'[log](../{log})' if log else ''


_NAME = {'name': lambda e: f'`{e.name}`'}
_CONFIG = {'config': lambda e: f'[{e.config}](../{e.config})'}
_COST = {
    'parameters, M': _count('Parameters', 1e6),
    'multiply-adds, G': _count('Multiply-adds', 1e9),
}
_TABLES: dict[str, tuple[str, dict[str, Callable[[Entry], str]]]] = {
    'trained': (
        'Trained',
        {
            **_NAME,
            **_CONFIG,
            **_COST,
            'metrics': metrics,
            'data set': _datasets,
            'MB': lambda e: f'{e.size / 1e6:.1f}',
            'log': _log,
        },
    ),
    'derived': (
        'Derived',
        {
            **_NAME,
            'made from': lambda e: f'`{e.source}`',
            'for the backbone of': _CONFIG['config'],
        },
    ),
    'not trained yet': (
        'Recipes, not trained yet',
        {
            **_NAME,
            **_CONFIG,
            'data set': lambda e: str(e.metadata.get('Training Data', '')),
            **_COST,
        },
    ),
}
"""For each state a title, and the columns."""


def markdown(index: Index) -> str:
    """One table for each state that an entry can be in."""
    lines = []
    for state, (title, columns) in _TABLES.items():
        rows = [
            [cell(entry) for cell in columns.values()]
            for entry in index.entries.values()
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


def rewritten(page: str, index: Index) -> str:
    """A page with what is between its two marks made anew.

    Raises:
        BadInput: If it does not have the marks.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise BadInput(f'the page: expected {BEGIN} and {END} in it')
    return f'{before}{BEGIN}\n\n{markdown(index)}\n{END}{after}'
