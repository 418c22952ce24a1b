"""Any index is read as safe entries, or refused; no file leaves its folder."""

import os.path as osp
import string
import tempfile
from pathlib import Path
from unittest.mock import patch

import pytest
import yaml
from hypothesis import strategies as st
from strategies import cases, quiet, refused
from zoo_server import BODY, FILE, entry

import mmkdna.zoo.index
from mmkdna.errors import BadInput
from mmkdna.zoo import download
from mmkdna.zoo.derive import locate
from mmkdna.zoo.index import find, is_name, is_url, read_index

LOCAL = f'weights/{FILE}'
PARTS = st.sampled_from(
    ['..', '.', '', 'a', '~', 'weights', FILE, 'x.pth', 'C:', '\\', '\0', 'é']
)
PATHS = st.one_of(
    st.lists(PARTS, max_size=4).map('/'.join),
    st.sampled_from(
        [
            'file:///etc/passwd',
            'FILE:///etc/passwd',
            'ftp://127.0.0.1/x.pth',
            'http://127.0.0.1:1/x.pth',
            'http://127.0.0.1:1/../x.pth',
            'http://[::1/x.pth',
            'http://127.0.0.1:99999/x.pth',
            'http:///x.pth',
            'https://\0/x.pth',
            'mmkdna://thing',
        ]
    ),
)
NAMES = st.one_of(
    st.just('thing'),
    st.text('a./\\-_ \n\0é~%:$*', max_size=5),
    PATHS,
)
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 2**40),
    st.floats(),
    st.text(max_size=3),
    st.dates(),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.sampled_from(['Metrics', 'a']), st.none()),
)
METADATA = {
    'SHA-256': st.one_of(
        st.text('0123456789abcdefABCDEF', min_size=60, max_size=66),
        st.sampled_from(['0' * 64, 'a' * 8]),
        ODD,
    ),
    'Size (bytes)': st.one_of(st.integers(-1, 2 * len(BODY)), ODD),
    'Derived From': st.one_of(PATHS, st.just('torchvision://x'), ODD),
    'Parameters': ODD,
}
FIELDS = {
    'Name': st.one_of(NAMES, NAMES, ODD),
    'Config': st.one_of(PATHS, PATHS, ODD),
    'Weights': st.one_of(PATHS, PATHS, ODD),
    'Metadata': ODD,
    'Results': st.one_of(ODD, st.lists(ODD, max_size=2)),
}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    quiet()
    monkeypatch.setattr(download, 'ATTEMPTS', 0)
    monkeypatch.setattr(download, 'BACK_OFF', 0)
    monkeypatch.setattr(download, 'TIMEOUT', (0.5, 0.5))
    monkeypatch.delenv('MMKDNA_ZOO', raising=False)


def with_index(text, function):
    """Call a function where this is the index; its folder, what it gave."""
    with tempfile.TemporaryDirectory() as top:
        root, home = Path(top, 'index'), Path(top, 'cache')
        (root / 'configs').mkdir(parents=True)
        (root / 'model-index.yml').write_text('Import: [configs/a.yml]')
        (root / 'configs/a.yml').write_text(text, encoding='utf-8')
        (root / 'weights').mkdir()
        (root / LOCAL).write_bytes(BODY)
        outside = Path(top, FILE)
        outside.write_bytes(BODY)
        with (
            patch.object(mmkdna.zoo.index, 'default_root', lambda: str(root)),
            patch.dict('os.environ', MMKDNA_HOME=str(home)),
        ):
            said = function(root, home)
        # Nothing was written but below the cache.
        assert {*Path(top).iterdir()} <= {root, home, outside}
        assert {*(root / 'weights').iterdir()} == {root / LOCAL}
        return said


def inside(path, folder):
    whole = osp.realpath(path)
    return osp.commonpath([whole, osp.realpath(folder)]) == str(folder)


def check_entries(root, home):
    for name, found in read_index().items():
        assert find(name) == found
        assert is_name(found.file or 'recipe')
        for location in (found.config, found.weights):
            if location is not None and not is_url(location):
                assert inside(found.path(location), root)
        if not found.weights:
            continue
        assert set(found.sha256) <= set(string.hexdigits.lower())
        assert len(found.sha256) == 64
        assert type(found.size) is int
        assert found.size > 0
        try:
            path = locate(name)
        except BadInput:
            continue
        assert inside(path, root) or inside(path, home)
        assert Path(path).read_bytes() == BODY


@cases(
    fields=st.fixed_dictionaries({}, optional=FIELDS),
    metadata=st.fixed_dictionaries({}, optional=METADATA),
    left_out=st.sets(st.sampled_from([*FIELDS]), max_size=1),
)
def test_entries_are_safe_or_refused(fields, metadata, left_out):
    made = entry(**metadata) | fields
    made = {k: v for k, v in made.items() if k not in left_out}
    text = yaml.safe_dump({'Models': [made]}, allow_unicode=True)
    with_index(text, lambda *where: refused(check_entries, *where))


WORDS = st.sampled_from(
    [
        *('Models', 'Name', 'Config', 'a', '? ', ': ', '- ', '[', ']', '{'),
        *('}', ', ', '&a ', '*a', '!!python/object:os.system ', '<<: ', '|'),
        *('\n', '\n  ', '\t', '"', "'", '#', '2001-02-30', '0b_', '0o8'),
        *('1:99', '.inf', '~', '!!int x', '!!float x', '!!binary x', '%'),
        *('!!timestamp x', '!!set ', '!!omap ', '---', '...', '\x07', 'é'),
    ]
)


@cases(
    words=st.lists(WORDS, max_size=12),
    start=st.sampled_from(['', 'Models:\n- Name: ', 'Models: [']),
)
def test_any_text_is_an_index_or_a_sentence(words, start):
    text = start + ''.join(words)
    with_index(text, lambda *where: refused(check_entries, *where))


@cases(name=NAMES)
def test_a_name_is_found_or_a_sentence(name):
    text = yaml.safe_dump({'Models': [entry()]})
    found = with_index(text, lambda *where: refused(find, name))
    assert (found is None) == (name == 'thing')
