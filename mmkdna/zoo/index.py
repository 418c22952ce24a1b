"""What the zoo has: entries, read from metafiles in the OpenMMLab form."""

import difflib
import os.path as osp
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from ..errors import BadInput, check

INDEX = 'model-index.yml'
RECIPES = 'configs/metafile.yml'
"""Entries without a file of their own. Not in the index: mim would find
nothing to download for them."""
LIST = '; python -m mmkdna.zoo list shows all'

_NAME = re.compile(r'[A-Za-z0-9][\w.+-]*')
_LETTERS = 'a name of letters, digits, dots, dashes and underscores'


@dataclass(frozen=True)
class Entry:
    """A model of the zoo.

    Args:
        name: What ``mmkdna://`` names.
        config: Path of its config, relative to the index.
        metadata: As in the metafile.
        results: As in the metafile: task, data set, metrics.
        weights: Where its file is: a path relative to the index, or a URL;
            None for a recipe or a derived entry.
        sha256: Of the file, 64 hexadecimal digits.
        size: Of the file, in bytes.
        source: Of a derived entry, the checkpoint that it is made from.
    """

    name: str
    config: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    results: tuple[Mapping[str, Any], ...] = ()
    weights: str | None = None
    sha256: str = ''
    size: int = 0
    source: str | None = None

    @property
    def file(self) -> str:
        """Name of its file, wherever that is."""
        return (self.weights or '').rpartition('/')[2]

    @property
    def state(self) -> str:
        """``trained``, ``derived`` or ``not trained yet``."""
        if self.weights:
            return 'trained'
        return 'derived' if self.source else 'not trained yet'


@dataclass(frozen=True)
class Index:
    """All entries.

    Args:
        root: The folder that their paths are relative to.
        entries: By name, in the order of the metafiles.
    """

    root: str
    entries: Mapping[str, Entry]

    def find(self, name: str) -> Entry:
        """The entry of a name.

        Raises:
            BadInput: If there is none.
        """
        if not is_name(name):
            raise BadInput(f'mmkdna://{name}: expected {_LETTERS}{LIST}')
        if name not in self.entries:
            near = difflib.get_close_matches(name, self.entries, 3, 0.5)
            but = f', but {" and ".join(near)}' if near else ''
            raise BadInput(f'mmkdna://{name}: no such entry{but}{LIST}')
        return self.entries[name]

    def path(self, relative: str) -> str:
        """A path of an entry on this machine."""
        return osp.join(self.root, relative)


def default_root() -> str:
    """Where the index is: the repository, or what the package ships.

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


def read_index() -> Index:
    """Read the index of this installation and the metafiles that it imports.

    Raises:
        BadInput: If a file is missing or does not parse, or an entry lacks
            something.
    """
    root = default_root()
    where = osp.join(root, INDEX)
    files: Any = _parse(where).get('Import')
    check(f'{where}: Import', files, isinstance(files, list), 'a list')
    if osp.isfile(osp.join(root, RECIPES)):
        files = [*files, RECIPES]
    entries: dict[str, Entry] = {}
    for file in files:
        for entry in _entries(osp.join(root, str(file))):
            if entry.name in entries:
                raise BadInput(f'{file}: {entry.name} is there twice')
            entries[entry.name] = entry
    return Index(root, entries)


def _parse(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding='utf-8') as file:
            parsed = yaml.safe_load(file)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = ' '.join(str(error).split())
        raise BadInput(f'{path} cannot be read: {reason}') from None
    if not isinstance(parsed, dict):
        raise BadInput(f'{path}: expected a mapping, such as Models: [...]')
    return parsed


def _entries(path: str) -> Iterator[Entry]:
    models: Any = _parse(path).get('Models')
    check(f'{path}: Models', models, isinstance(models, list), 'a list')
    for number, model in enumerate(models):
        where = f'{path}: Models[{number}]'
        check(where, model, isinstance(model, dict), 'a mapping')
        yield _entry(model, where)


def _entry(model: dict[str, Any], where: str) -> Entry:
    name: Any = model.get('Name')
    check(f'{where}: Name', name, is_name(name), _LETTERS)
    where = f'{where} ({name}): '
    metadata = model.get('Metadata') or {}
    results = model.get('Results') or []
    config: Any = model.get('Config')
    weights: Any = model.get('Weights')
    source = metadata.get('Derived From') if _is(metadata, dict) else None
    for key, value, holds, expected in (
        ('Config', config, _is_below(config), 'a path below the index'),
        ('Metadata', metadata, _is(metadata, dict), 'a mapping'),
        ('Results', results, _is(results, list), 'a list'),
        ('Derived From', source, _is(source or '', str), 'a str'),
    ):
        check(where + key, value, holds, expected)
    for number, result in enumerate(results):
        holds = _is(result, dict) and _is(result.get('Metrics') or {}, dict)
        expected = 'a mapping with Metrics, a mapping of names to numbers'
        check(f'{where}Results[{number}]', result, holds, expected)
    for key in ('Parameters', 'Multiply-adds', 'Size (bytes)'):
        count = metadata.get(key, 0)
        check(where + key, count, type(count) in (int, float), 'a number')
    entry = Entry(
        name,
        config,
        metadata,
        tuple(results),
        weights,
        str(metadata.get('SHA-256', '')),
        metadata.get('Size (bytes)', 0),
        source,
    )
    if weights is not None:
        holds = _is(weights, str) and (is_url(weights) or _is_below(weights))
        holds = holds and is_name(entry.file)
        expected = 'a URL, or a path below the index'
        check(f'{where}Weights', weights, holds, expected)
        holds = bool(re.fullmatch('[0-9a-f]{64}', entry.sha256))
        expected = '64 hexadecimal digits'
        check(f'{where}SHA-256', entry.sha256, holds, expected)
        holds = type(entry.size) is int and entry.size > 0
        check(f'{where}Size (bytes)', entry.size, holds, 'an int')
    return entry


def _is(value: object, kind: type) -> bool:
    return isinstance(value, kind)


def is_name(text: object) -> bool:
    """Whether an entry, and so a file of it, may be called so."""
    if not isinstance(text, str):
        return False
    return _NAME.fullmatch(text) is not None and '..' not in text


def is_url(location: str) -> bool:
    """Whether a location is one of the web, not of this machine."""
    return location.startswith(('http://', 'https://'))


def _is_below(path: object) -> bool:
    if not isinstance(path, str):
        return False
    return not osp.isabs(path) and '..' not in path.split('/')
