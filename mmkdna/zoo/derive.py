"""Find the file of an entry, or make it from a plain checkpoint."""

import hashlib
import os.path as osp
import re

from mmengine.config import Config
from mmengine.logging import MMLogger, print_log
from mmengine.runner.checkpoint import (
    get_external_models,
    get_torchvision_models,
)

from ..adoption.offline import adopt_weights
from ..checkpoint import read_weights, write_weights
from ..errors import BadInput, check
from ..measure.configs import build_model
from ..version import __version__
from .index import Entry, find, is_url
from .publish import notes_of
from .store import home, locked, obtain

_CATALOGUES = {
    'torchvision://': get_torchvision_models,
    'open-mmlab://': get_external_models,
}
_START = 'children start as their parents'
"""How children start. If this text changes, files are made again."""


def locate(name: str) -> str:
    """The path of an entry's file; a missing file is downloaded or made.

    The file of a derived entry is made from its source:
    :mod:`mmkdna.adoption` loads the source into the KernelDNA model of the
    config. The result is kept in the cache.

    Raises:
        BadInput: If there is no such entry, it has no file, no location has
            the file, or the source does not fit the config.
    """
    entry = find(name)
    if entry.weights:
        own = entry.path(entry.weights)
        return obtain(entry.file, entry.sha256, entry.size, (own,))
    if not entry.source:
        raise BadInput(
            f'mmkdna://{name} is a recipe, not trained yet: '
            f'python tools/train.py {entry.config} trains it'
        )
    path = derived_path(entry)
    if not osp.isfile(path):
        with locked(path):
            # Another process may have made it meanwhile.
            if not osp.isfile(path):
                _derive(entry, path)
    return path


def derived_path(entry: Entry) -> str:
    """The path of a derived entry's file; its name depends on the config."""
    cfg = Config.fromfile(entry.path(entry.config))
    made_of = f'{entry.source}\n{__version__}\n{_START}\n{cfg.pretty_text}'
    digits = hashlib.sha256(made_of.encode()).hexdigest()[:8]
    return osp.join(home(), f'{entry.name}-{digits}.safetensors')


def source_url(source: str) -> str:
    """The URL of a source.

    Args:
        source: A URL, ``torchvision://NAME`` or ``open-mmlab://NAME``.

    Raises:
        BadInput: If it is none of these, or there is no such name.
    """
    for scheme, catalogue in _CATALOGUES.items():
        if source.startswith(scheme):
            name, urls = source.removeprefix(scheme), catalogue()
            if name not in urls:
                raise BadInput(f'{source}: {scheme} has no {name}')
            return str(urls[name])
    expected = f'a URL or a name of {" or ".join(_CATALOGUES)}'
    check('Derived From', source, is_url(source), expected)
    return source


def _upstream(url: str) -> str:
    """Download a source; its name ends in the start of its SHA-256."""
    file = url.rpartition('/')[2]
    found = re.search(r'-([0-9a-f]{8,64})\.', file)
    if found is None:
        raise BadInput(
            f'Derived From={url!r}: expected a name such as '
            'resnet50-11ad3fa6.pth, which says how its SHA-256 begins'
        )
    return obtain(file, found[1], locations=(url,))


def _derive(entry: Entry, path: str) -> None:
    cfg = Config.fromfile(entry.path(entry.config))
    source = _upstream(source_url(entry.source))
    print_log(f'{entry.name} is made from {source}, once', 'current')
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel('ERROR')
    try:
        model = build_model(cfg)
        adopted = adopt_weights(model, read_weights(source))
    finally:
        logger.setLevel(level)
    part = model.get_submodule(adopted.part)
    notes = notes_of(cfg, part, {'source': entry.source})
    write_weights(adopted.weights, path, notes)
