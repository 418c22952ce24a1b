"""The index of the zoo: the entries of metafiles in OpenMMLab's form."""

import difflib
import os.path as osp
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from ..errors import BadInput, check, check_int

INDEX = 'model-index.yml'
RECIPES = 'configs/metafile.yml'
"""Entries without a file. The index does not list them: mim expects a file
for each."""
_LIST = '; python -m mmkdna.zoo list shows all'

_NAME = re.compile(r'(?!.*\.\.)[A-Za-z0-9][\w.+-]*')
_LETTERS = 'a name of letters, digits, dots, dashes and underscores'


@dataclass(frozen=True)
class Entry:
    """A model of the zoo.

    Args:
        name: The NAME of ``mmkdna://NAME``.
        config: Path of its config, relative to the index.
        metadata: As in the metafile.
        results: As in the metafile: task, data set, metrics.
        weights: Path of its file, relative to the index, or a URL; None for
            a recipe or a derived entry.
        sha256: SHA-256 of the file, 64 hexadecimal digits.
        size: Size of the file in bytes.
        source: The checkpoint that a derived entry is made from, else ``''``.
        root: The folder of the index.
    """

    name: str
    config: str
    metadata: Mapping[str, Any]
    results: Sequence[Mapping[str, Any]]
    weights: str | None
    sha256: str
    size: int
    source: str
    root: str

    @property
    def file(self) -> str:
        """The name of its file."""
        return (self.weights or '').rpartition('/')[2]

    @property
    def state(self) -> str:
        """``trained``, ``derived`` or ``not trained yet``."""
        if self.weights:
            return 'trained'
        return 'derived' if self.source else 'not trained yet'

    @property
    def metrics(self) -> str:
        """The metrics of all its tests, on a line."""
        return '; '.join(
            ', '.join(f'{key} {value}' for key, value in metrics.items())
            for result in self.results
            if (metrics := result.get('Metrics'))
        )

    def path(self, location: str) -> str:
        """The path of its config or file; a URL stays as it is."""
        if is_url(location):
            return location
        return osp.join(self.root, location)


def default_root() -> str:
    """The folder of the index: ``.mim`` of the package, or the repository.

    Raises:
        BadInput: If it is in neither.
    """
    package = osp.dirname(osp.dirname(osp.abspath(__file__)))
    for root in (osp.join(package, '.mim'), osp.dirname(package)):
        if osp.isfile(osp.join(root, INDEX)):
            return root
    raise BadInput(
        f'{INDEX} is neither in {package}/.mim nor beside {package}: install '
        'mmkdna again, or use it from its repository'
    )


def find(name: str) -> Entry:
    """The entry with this name.

    Raises:
        BadInput: If there is none, or the index cannot be read.
    """
    if not is_name(name):
        raise BadInput(f'mmkdna://{name}: expected {_LETTERS}{_LIST}')
    entries = read_index()
    if name not in entries:
        near = difflib.get_close_matches(name, entries, 3, 0.5)
        but = f', but {" and ".join(near)}' if near else ''
        raise BadInput(f'mmkdna://{name}: no such entry{but}{_LIST}')
    return entries[name]


def read_index() -> dict[str, Entry]:
    """All entries by name, in the order of the metafiles.

    Raises:
        BadInput: If a file is missing or does not parse, or an entry is
            incomplete.
    """
    root = default_root()
    files = _listed(osp.join(root, INDEX), 'Import')
    if osp.isfile(osp.join(root, RECIPES)):
        files = [*files, RECIPES]
    entries: dict[str, Entry] = {}
    for file in files:
        path = osp.join(root, str(file))
        for number, model in enumerate(_listed(path, 'Models')):
            entry = _entry(model, f'{path}: Models[{number}]', root)
            if entry.name in entries:
                raise BadInput(f'{file}: {entry.name} is there twice')
            entries[entry.name] = entry
    return entries


def _listed(path: str, key: str) -> list[Any]:
    try:
        with open(path, encoding='utf-8') as file:
            parsed = yaml.safe_load(file)
    # yaml's constructors raise whatever Python does: 2001-02-30, 0b_, ...
    except Exception as error:
        reason = ' '.join(str(error).split())
        raise BadInput(f'{path} cannot be read: {reason}') from None
    if not isinstance(parsed, dict):
        raise BadInput(f'{path}: expected a mapping, such as {key}: [...]')
    return _of(list, parsed.get(key), f'{path}: {key}')


def _entry(model: Any, where: str, root: str) -> Entry:
    name: Any = _of(dict, model, where).get('Name')
    check(f'{where}: Name', name, is_name(name), _LETTERS)
    where = f'{where} ({name}): '
    config, weights = model.get('Config'), model.get('Weights')
    below = 'a path below the index'
    check(f'{where}Config', config, _is_below(config), below)
    metadata = _of(dict, model.get('Metadata') or {}, f'{where}Metadata')
    results = _of(list, model.get('Results') or [], f'{where}Results')
    for number, result in enumerate(results):
        test = f'{where}Results[{number}]'
        metrics = _of(dict, result, test).get('Metrics')
        _of(dict, metrics or {}, f'{test}: Metrics')
    source = metadata.get('Derived From') or ''
    for key in ('Parameters', 'Multiply-adds'):
        count = metadata.get(key, 0)
        check(where + key, count, type(count) in (int, float), 'a number')
    entry = Entry(
        name,
        config,
        metadata,
        results,
        weights,
        sha256=str(metadata.get('SHA-256', '')),
        size=metadata.get('Size (bytes)', 0),
        source=_of(str, source, f'{where}Derived From'),
        root=root,
    )
    if weights is not None:
        holds = isinstance(weights, str) and is_name(entry.file)
        holds = holds and (is_url(weights) or _is_below(weights))
        check(f'{where}Weights', weights, holds, f'a URL, or {below}')
        holds = re.fullmatch('[0-9a-f]{64}', entry.sha256) is not None
        expected = '64 hexadecimal digits'
        check(f'{where}SHA-256', entry.sha256, holds, expected)
        check_int(f'{where}Size (bytes)', entry.size, 1)
    return entry


def _of(kind: type, value: Any, what: str) -> Any:
    """Return a value, or raise BadInput if it is of another type."""
    names: dict[type, str] = {dict: 'a mapping', list: 'a list', str: 'a str'}
    check(what, value, isinstance(value, kind), names[kind])
    return value


def is_name(text: object) -> bool:
    """Whether an entry and its file can have this name."""
    return isinstance(text, str) and _NAME.fullmatch(text) is not None


def is_url(location: str) -> bool:
    """Whether a location is a URL, not a path."""
    return location.startswith(('http://', 'https://'))


def _is_below(path: object) -> bool:
    # No file of this machine has a name with a zero.
    if not isinstance(path, str) or '\0' in path:
        return False
    climbs = '..' in path.split('/')
    return not (osp.isabs(path) or climbs or '://' in path)
