"""What the zoo has: entries, read from metafiles in the OpenMMLab form."""

import difflib
import os.path as osp
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from ..errors import BadInput

INDEX = 'model-index.yml'
RECIPES = 'configs/metafile.yml'
"""Entries without a file of their own: mim, which finds nothing to download
for them, does not read these."""

_NAME = re.compile(r'[A-Za-z0-9][\w.+-]*')
_SHA256 = re.compile(r'[0-9a-f]{64}')


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
        assert self.weights is not None
        return self.weights.rpartition('/')[2]

    @property
    def state(self) -> str:
        """``trained``, ``derived`` or ``not trained yet``."""
        if self.weights:
            return 'trained'
        return 'derived' if self.source else 'not trained yet'


@dataclass(frozen=True)
class Index:
    """All entries, by name.

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
            raise BadInput(
                f'mmkdna://{name}: expected a name of letters, digits, dots, '
                'dashes and underscores; python -m mmkdna.zoo list shows all'
            )
        if name not in self.entries:
            near = difflib.get_close_matches(name, self.entries, 3, 0.5)
            raise BadInput(
                f'mmkdna://{name}: the zoo has no such entry'
                + (f', but {" and ".join(near)}' if near else '')
                + '; python -m mmkdna.zoo list shows all'
            )
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


def read_index(root: str | None = None) -> Index:
    """Read the index and the metafiles that it imports.

    Args:
        root: Its folder; None for the one of this installation.

    Raises:
        BadInput: If a file is missing, does not parse, or has an entry that
            is not whole.
    """
    root = default_root() if root is None else root
    index = _parse(osp.join(root, INDEX))
    files = index.get('Import')
    if not isinstance(files, list):
        raise BadInput(
            f'{osp.join(root, INDEX)}: expected Import, a list of metafiles'
        )
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
    models = _parse(path).get('Models')
    if not isinstance(models, list):
        raise BadInput(f'{path}: expected Models, a list of entries')
    for number, model in enumerate(models):
        where = f'{path}: Models[{number}]'
        if not isinstance(model, dict):
            raise BadInput(f'{where}: expected a mapping, got {model!r}')
        yield _entry(model, where)


def _entry(model: dict[str, Any], where: str) -> Entry:
    name = model.get('Name')
    if not isinstance(name, str) or not is_name(name):
        raise BadInput(
            f'{where}: Name {name!r}: expected letters, digits, dots, dashes '
            'and underscores'
        )
    where = f'{where} ({name})'
    metadata = model.get('Metadata') or {}
    results = model.get('Results') or []
    for key, value, kind in (
        ('Config', model.get('Config'), str),
        ('Metadata', metadata, dict),
        ('Results', results, list),
        ('Weights', model.get('Weights', ''), str),
        ('Metadata.Derived From', metadata.get('Derived From', ''), str),
    ):
        if not isinstance(value, kind):
            raise BadInput(
                f'{where}: {key} {value!r}: expected a {kind.__name__}'
            )
    for number, result in enumerate(results):
        found = result.get('Metrics') if isinstance(result, dict) else result
        if not isinstance(found or {}, dict) or not isinstance(result, dict):
            raise BadInput(
                f'{where}: Results[{number}] {result!r}: expected a mapping '
                'with Metrics, a mapping of names to numbers'
            )
    for key in ('Parameters', 'Multiply-adds', 'Size (bytes)'):
        count = metadata.get(key, 0)
        if not isinstance(count, (int, float)) or isinstance(count, bool):
            raise BadInput(
                f'{where}: Metadata.{key} {count!r}: expected a number'
            )
    entry = Entry(
        name,
        model['Config'],
        metadata,
        tuple(results),
        model.get('Weights'),
        str(metadata.get('SHA-256', '')),
        metadata.get('Size (bytes)', 0),
        metadata.get('Derived From'),
    )
    if not _is_below(entry.config):
        raise BadInput(
            f'{where}: Config {entry.config!r}: expected a path below the '
            'index'
        )
    if entry.weights is None:
        return entry
    if not _SHA256.fullmatch(entry.sha256) or not isinstance(entry.size, int):
        raise BadInput(
            f'{where}: an entry with Weights: expected Metadata with '
            'SHA-256, 64 hexadecimal digits, and Size (bytes)'
        )
    if not _NAME.fullmatch(entry.file) or not (
        is_url(entry.weights) or _is_below(entry.weights)
    ):
        raise BadInput(
            f'{where}: Weights {entry.weights!r}: expected a URL, or a path '
            'below the index'
        )
    return entry


def is_name(text: str) -> bool:
    """Whether an entry, and so a file of it, may be called so."""
    return _NAME.fullmatch(text) is not None and '..' not in text


def is_url(location: str) -> bool:
    """Whether a location is one of the web, not of this machine."""
    return location.startswith(('http://', 'https://'))


def _is_below(path: str) -> bool:
    return not osp.isabs(path) and '..' not in path.split('/')
