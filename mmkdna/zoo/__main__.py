"""The zoo from the command line.

Example: python -m mmkdna.zoo download kdna_r50_from_torchvision
"""

import argparse
import os.path as osp
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from mmengine.config import Config
from mmengine.logging import MMLogger
from rich import box
from rich.console import Console
from rich.table import Table

from ..errors import BadInput
from ..files import sha256, write_text
from .derive import derived_path
from .index import Entry, Index, read_index
from .scheme import SCHEME, resolve
from .store import home, mirrors
from .table import metrics, rewritten


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog=osp.basename(sys.argv[0]),
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest='command', required=True)
    for command, argument, many, text in (
        ('list', '', None, 'all entries'),
        ('show', 'NAME', 1, 'all details of an entry'),
        ('download', 'NAME', '+', 'download or make the files of entries'),
        ('verify', 'NAME', '*', 'check the files on this machine'),
        ('where', 'NAME', '*', 'where mmkdna looks for files and finds them'),
        ('table', 'PAGE.md', 1, 'rewrite the tables of a page'),
    ):
        sub = commands.add_parser(command, help=text)
        if argument:
            sub.add_argument('names', nargs=many, metavar=argument)
    args = parser.parse_args(argv)
    # It logs to where the paths are printed.
    MMLogger.get_current_instance().setLevel('WARNING')
    console = Console(file=sys.stdout)
    out = partial(console.print, soft_wrap=True)
    index = read_index()
    if args.command == 'list':
        console.print(listed(index))
        return
    if args.command == 'table':
        (page,) = args.names
        new = rewritten(Path(page).read_text(encoding='utf-8'), index)
        write_text(new, page)
        return
    entries = [index.find(name.removeprefix(SCHEME)) for name in args.names]
    if args.command == 'show':
        out('\n'.join(shown(entries[0])), highlight=False)
    elif args.command == 'download':
        for entry in entries:
            out(resolve(entry.name))
    elif args.command == 'where':
        out(f'cache (MMKDNA_HOME): {home()}')
        out(f'then (MMKDNA_ZOO): {", ".join(mirrors()) or "nothing"}')
        out(f'index: {index.root}')
        for entry in entries:
            paths = present(entry, index) or ['not on this machine yet']
            out(f'{entry.name}: {paths[0]}')
    else:
        damaged = []
        for entry in entries or index.entries.values():
            for path in present(entry, index) if entry.sha256 else ():
                whole = sha256(path) == entry.sha256
                out(f'{path}: {"whole" if whole else "damaged"}')
                damaged += [] if whole else [path]
        if damaged:
            raise BadInput(
                f'{" and ".join(damaged)}: the SHA-256 differs from the '
                'index; remove it and download it again'
            )


def listed(index: Index) -> Table:
    """All entries."""
    table = Table(box=box.SIMPLE)
    table.add_column('name', overflow='fold')
    table.add_column('state')
    table.add_column('metrics')
    for entry in index.entries.values():
        table.add_row(entry.name, entry.state, metrics(entry))
    return table


def shown(entry: Entry) -> Iterable[str]:
    """All details of an entry, a line each."""
    known = {
        'name': f'{SCHEME}{entry.name}',
        'state': entry.state,
        'config': entry.config,
        **entry.metadata,
        'metrics': metrics(entry) or 'none',
        'weights': entry.weights or entry.source or 'none',
    }
    return (f'{key}: {value}' for key, value in known.items())


def present(entry: Entry, index: Index) -> list[str]:
    """The paths of an entry's file that exist on this machine."""
    paths = []
    if entry.source:
        cfg = Config.fromfile(index.path(entry.config))
        paths = [derived_path(entry, cfg)]
    elif entry.weights:
        paths = [osp.join(home(), entry.file), index.path(entry.weights)]
    return [path for path in paths if osp.isfile(path)]


if __name__ == '__main__':
    # The name in usage and errors; Python sets __main__.py.
    sys.argv[0] = 'mmkdna.zoo'
    try:
        main()
    except BadInput as error:
        sys.exit(f'mmkdna.zoo: {error}')
