"""The zoo from the command line.

Example: python -m mmkdna.zoo download kdna_r50_from_torchvision
"""

import argparse
import os.path as osp
import sys
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config
from rich import box
from rich.console import Console
from rich.table import Table

from ..cli import exit_on_bad_input
from ..errors import BadInput
from ..files import written_beside
from .derive import derived_path
from .download import sha256
from .index import Entry, Index, read_index
from .scheme import SCHEME, resolve
from .store import home, mirrors
from .table import metrics, rewritten


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=osp.basename(sys.argv[0]),
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest='command', required=True)
    commands.add_parser('list', help='all entries')
    for command, many, text in (
        ('show', None, 'all that is known of an entry'),
        ('download', '+', 'fetch or make the files of entries'),
        ('verify', '*', 'check files of the cache and of the repository'),
        ('where', '*', 'where files are looked for, and are'),
    ):
        sub = commands.add_parser(command, help=text)
        sub.add_argument(
            'names' if many else 'name', nargs=many, metavar='NAME'
        )
    table = commands.add_parser('table', help='make the tables of a page anew')
    table.add_argument('page', metavar='PAGE.md')
    return parser


def show_list(index: Index, console: Console) -> None:
    table = Table(box=box.SIMPLE)
    table.add_column('name', overflow='fold')
    table.add_column('state')
    table.add_column('metrics')
    for entry in index.entries.values():
        table.add_row(entry.name, entry.state, metrics(entry))
    console.print(table)


def show(entry: Entry, console: Console) -> None:
    for key, value in (
        ('name', f'{SCHEME}{entry.name}'),
        ('state', entry.state),
        ('config', entry.config),
        *entry.metadata.items(),
        ('metrics', metrics(entry) or 'none'),
        ('weights', entry.weights or entry.source or 'none'),
    ):
        console.print(f'{key}: {value}', soft_wrap=True, highlight=False)


def present(entry: Entry, index: Index) -> list[str]:
    """Paths at which an entry's file is on this machine."""
    if entry.source:
        cfg = Config.fromfile(index.path(entry.config))
        paths = [derived_path(entry, cfg)]
    elif entry.weights:
        paths = [osp.join(home(), entry.file), index.path(entry.weights)]
    else:
        paths = []
    return [path for path in paths if osp.isfile(path)]


def verify(entries: Sequence[Entry], index: Index, console: Console) -> None:
    """Compare each trained entry's file that is here with the index.

    Raises:
        BadInput: If one is another.
    """
    bad = []
    for entry in entries:
        for path in present(entry, index) if entry.sha256 else ():
            whole = sha256(path) == entry.sha256
            console.print(
                f'{path}: {"whole" if whole else "damaged"}', soft_wrap=True
            )
            if not whole:
                bad.append(path)
    if bad:
        raise BadInput(
            f'{" and ".join(bad)}: the SHA-256 is not that of the index; '
            'remove it and download it again'
        )


def where(entries: Sequence[Entry], index: Index, console: Console) -> None:
    console.print(f'cache (MMKDNA_HOME): {home()}', soft_wrap=True)
    console.print(
        f'then (MMKDNA_ZOO): {", ".join(mirrors()) or "nothing"}',
        soft_wrap=True,
    )
    console.print(f'index: {index.root}', soft_wrap=True)
    for entry in entries:
        paths = present(entry, index) or ['not on this machine yet']
        console.print(f'{entry.name}: {paths[0]}', soft_wrap=True)


def main(argv: Sequence[str] | None = None) -> None:
    args = arguments().parse_args(argv)
    console = Console(file=sys.stdout)
    index = read_index()
    if args.command == 'list':
        show_list(index, console)
        return
    if args.command == 'show':
        show(index.find(args.name.removeprefix(SCHEME)), console)
        return
    if args.command == 'table':
        page = Path(args.page).read_text(encoding='utf-8')
        new = rewritten(page, index)
        with written_beside(args.page) as beside:
            Path(beside).write_text(new, encoding='utf-8')
        return
    entries = [index.find(name.removeprefix(SCHEME)) for name in args.names]
    if args.command == 'download':
        for entry in entries:
            console.print(resolve(entry.name), soft_wrap=True)
    elif args.command == 'verify':
        verify(entries or [*index.entries.values()], index, console)
    else:
        where(entries, index, console)


if __name__ == '__main__':
    # What errors and usage call it; Python has __main__.py.
    sys.argv[0] = 'mmkdna.zoo'
    exit_on_bad_input(main)
