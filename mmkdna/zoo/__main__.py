"""The zoo from the command line.

Example: python -m mmkdna.zoo download kdna_r50_from_torchvision
"""

import os.path as osp
from collections.abc import Iterable, Sequence

from mmengine.logging import MMLogger

from ..cli import exit_on_bad_input, plain_parser
from ..errors import BadInput
from ..files import sha256
from ..measure.show import new_table, print_table
from .derive import derived_path
from .index import Entry, default_root, find, read_index
from .scheme import SCHEME, resolve
from .store import home, mirrors


def main(argv: Sequence[str] | None = None) -> None:
    parser = plain_parser(__doc__)
    parser.prog = 'mmkdna.zoo'
    commands = parser.add_subparsers(dest='command', required=True)
    for command, many, text in (
        ('list', '*', 'state and metrics of entries, of all by default'),
        ('show', 1, 'all details of an entry'),
        ('download', '+', 'download or make the files of entries'),
        ('verify', '*', 'check the files on this machine'),
        ('where', '*', 'where mmkdna looks for files and finds them'),
    ):
        sub = commands.add_parser(command, help=text)
        sub.add_argument('names', nargs=many, metavar='NAME')
    args = parser.parse_args(argv)
    # It logs to where the paths are printed.
    MMLogger.get_current_instance().setLevel('WARNING')
    entries = [find(name.removeprefix(SCHEME)) for name in args.names]
    if args.command == 'list':
        table = new_table('name', 'state', 'metrics')
        for entry in entries or read_index().values():
            table.add_row(entry.name, entry.state, entry.metrics)
        print_table(table)
    elif args.command == 'show':
        (entry,) = entries
        known = {
            'name': f'{SCHEME}{entry.name}',
            'state': entry.state,
            'config': entry.config,
            **entry.metadata,
            'metrics': entry.metrics or 'none',
            'weights': entry.weights or entry.source or 'none',
        }
        for key, value in known.items():
            print(f'{key}: {value}')
    elif args.command == 'download':
        for entry in entries:
            print(resolve(entry.name))
    elif args.command == 'where':
        print(f'cache (MMKDNA_HOME): {home()}')
        print(f'then (MMKDNA_ZOO): {", ".join(mirrors()) or "nothing"}')
        print(f'index: {default_root()}')
        for entry in entries:
            paths = present(entry) or ['not on this machine yet']
            print(f'{entry.name}: {paths[0]}')
    else:
        verify(entries or read_index().values())


def present(entry: Entry) -> list[str]:
    """The paths of an entry's file that exist on this machine."""
    paths = []
    if entry.weights:
        paths = [osp.join(home(), entry.file), entry.path(entry.weights)]
    elif entry.source:
        paths = [derived_path(entry)]
    return [path for path in paths if osp.isfile(path)]


def verify(entries: Iterable[Entry]) -> None:
    """Print which files of trained entries are whole.

    Raises:
        BadInput: If one is not.
    """
    damaged = []
    for entry in entries:
        for path in present(entry) if entry.weights else ():
            whole = sha256(path) == entry.sha256
            print(f'{path}: {"whole" if whole else "damaged"}')
            damaged += [] if whole else [path]
    if damaged:
        raise BadInput(
            f'{" and ".join(damaged)}: the SHA-256 differs from the index; '
            'remove it and download it again'
        )


if __name__ == '__main__':
    exit_on_bad_input(main)
