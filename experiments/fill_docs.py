"""Write the experiments' tables and their picture into docs/.

A page holds a table between <!-- NAME --> and <!-- end of NAME -->. It is what
the experiment prints from the results beside it.

    python experiments/fill_docs.py
"""

import contextlib
import io
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import adoption
import dense
import from_scratch
import worth

from mmkdna import cli
from mmkdna.files import put_between, write_text

DOCS = Path(__file__).parent.parent / 'docs'
TEXT = {'', 'task', 'network'}
"""Titles of columns that hold no numbers."""


class Shown(NamedTuple):
    """A table of a page, and what prints it."""

    page: str
    main: Callable[[Sequence[str]], None]
    argv: Sequence[str]


TABLES = {
    'WORTH_TABLE': Shown('benchmarks.md', worth.main, []),
    'SCRATCH_TABLE': Shown('benchmarks.md', from_scratch.main, ['--show']),
    'ADOPTION_TABLE': Shown(
        'pretrained.md', adoption.main, ['resnet18', '--show']
    ),
    'PLAN_TABLE': Shown('pretrained.md', dense.main, ['digits', '--show']),
}


def printed(shown: Shown) -> list[str]:
    """The lines of the table, without the spaces that align its columns."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        shown.main(shown.argv)
    found = [line for line in out.getvalue().splitlines() if '|' in line]
    head, _, *rows = (
        [cell.strip() for cell in line.strip().strip('|').split('|')]
        for line in found
    )
    lines = ['---' if title in TEXT else '---:' for title in head]
    return [f'| {" | ".join(row)} |' for row in (head, lines, *rows)]


def filled(text: str, name: str, table: Sequence[str]) -> str:
    """A page with this table between its marks.

    Raises:
        BadInput: If it does not have the marks.
    """
    lines = '\n'.join(table)
    begin, end = f'<!-- {name} -->', f'<!-- end of {name} -->'
    return put_between(text, begin, end, f'\n{lines}\n')


def main(argv: Sequence[str] | None = None) -> None:
    cli.plain_parser(__doc__).parse_args(argv)
    for name, shown in TABLES.items():
        page = DOCS / shown.page
        text = page.read_text(encoding='utf-8')
        write_text(filled(text, name, printed(shown)), page)
    picture = from_scratch.OUT / 'scores.png'
    shutil.copyfile(picture, DOCS / 'from_scratch.png')


if __name__ == '__main__':
    cli.exit_on_bad_input(main)
