"""The tables of docs/model_zoo.md, from the index."""

from collections.abc import Iterable, Sequence

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


def markdown(index: Index) -> str:
    """One table for each state that an entry can be in."""
    states: dict[str, list[Entry]] = {}
    for entry in index.entries.values():
        states.setdefault(entry.state, []).append(entry)
    parts = []
    if 'trained' in states:
        parts += ['## Trained', '', *_trained(states['trained']), '']
    if 'derived' in states:
        parts += ['## Derived', '', *_derived(states['derived']), '']
    if 'not trained yet' in states:
        parts += [
            '## Recipes, not trained yet',
            '',
            *_recipes(states['not trained yet']),
            '',
        ]
    return '\n'.join(parts)


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


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    # Names on the left, numbers on the right.
    marks = [
        '---:'
        if title in ('parameters, M', 'multiply-adds, G', 'MB')
        else '---'
        for title in titles
    ]
    lines = [titles, marks, *rows]
    return [f'| {" | ".join(line)} |' for line in lines]


def _cost(entry: Entry) -> tuple[str, str]:
    counts = (
        (entry.metadata.get('Parameters'), 1e6),
        (entry.metadata.get('Multiply-adds'), 1e9),
    )
    millions, billions = (
        f'{number / unit:.2f}' if number else '' for number, unit in counts
    )
    return millions, billions


def _link(entry: Entry) -> str:
    return f'[{entry.config}](../{entry.config})'


def _log(entry: Entry) -> str:
    log = entry.metadata.get('Training Log')
    return f'[log](../{log})' if log else ''


def _trained(entries: Iterable[Entry]) -> list[str]:
    return _table(
        (
            'name',
            'config',
            'parameters, M',
            'multiply-adds, G',
            'metrics',
            'data set',
            'MB',
            'log',
        ),
        (
            (
                f'`{e.name}`',
                _link(e),
                *_cost(e),
                metrics(e),
                '; '.join(str(r.get('Dataset', '')) for r in e.results),
                f'{e.size / 1e6:.1f}',
                _log(e),
            )
            for e in entries
        ),
    )


def _derived(entries: Iterable[Entry]) -> list[str]:
    return _table(
        ('name', 'made from', 'for the backbone of'),
        ((f'`{e.name}`', f'`{e.source}`', _link(e)) for e in entries),
    )


def _recipes(entries: Iterable[Entry]) -> list[str]:
    return _table(
        ('name', 'config', 'data set', 'parameters, M', 'multiply-adds, G'),
        (
            (
                f'`{e.name}`',
                _link(e),
                str(e.metadata.get('Training Data', '')),
                *_cost(e),
            )
            for e in entries
        ),
    )
