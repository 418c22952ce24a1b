"""The weights that ship are what the index says, scored anew."""

import json
import subprocess
import sys

import pytest
import yaml
from helpers import ROOT

from mmkdna.checkpoint import read_checkpoint, read_weights
from mmkdna.measure.runs import in_percent
from mmkdna.zoo.derive import source_url
from mmkdna.zoo.download import sha256
from mmkdna.zoo.index import find, is_url, read_index

TRAINED = [e for e in read_index().values() if e.weights]
PLAIN = [
    f'{name}r18_digits' for name in ('maskrcnn_', 'retinanet_', 'upernet_', '')
]


@pytest.fixture(scope='module')
def cwd(tmp_path_factory):
    """One folder, so that the scenes are composed once."""
    return tmp_path_factory.mktemp('weights')


@pytest.mark.slow
@pytest.mark.parametrize('entry', TRAINED, ids=lambda entry: entry.name)
def test_scores_are_those_of_the_index(cwd, entry, monkeypatch):
    # No network, and nothing in the cache.
    monkeypatch.setenv('HTTPS_PROXY', 'http://127.0.0.1:9')
    monkeypatch.setenv('MMKDNA_HOME', str(cwd / 'cache'))
    subprocess.run(
        [
            *(sys.executable, ROOT / 'tools/test.py', ROOT / entry.config),
            *(f'mmkdna://{entry.name}', '--work-dir', entry.name),
        ],
        cwd=cwd,
        check=True,
    )
    (path,) = (cwd / entry.name).glob('*/*.json')
    found = json.loads(path.read_text())
    (result,) = entry.results
    # 0.001 of an AP.
    assert in_percent(found) == pytest.approx(result['Metrics'], abs=0.1)


@pytest.mark.slow
def test_a_file_published_again_is_the_same(cwd):
    entry = find('kdna_upernet_r18_digits')
    done = subprocess.run(
        [
            *(sys.executable, ROOT / 'tools/publish_model.py'),
            *(f'mmkdna://{entry.name}', ROOT / entry.config, 'again'),
            *('--name', entry.name, '--half', '--dataset', 'x', '--test'),
        ],
        cwd=cwd,
        check=True,
        capture_output=True,
        text=True,
    )
    (again,) = yaml.safe_load(done.stdout)
    (result,) = again['Results']
    metrics = entry.results[0]['Metrics']
    assert result['Metrics'] == pytest.approx(metrics, abs=0.1)
    meta = read_checkpoint(str(cwd / again['Weights']))['meta']
    assert json.loads(meta['results']) == [result]
    weights = read_weights(str(cwd / again['Weights']))
    before = read_weights(str(ROOT / entry.weights))
    assert weights.keys() == before.keys()
    assert all(value.equal(before[key]) for key, value in weights.items())


def test_weights_are_small_enough_for_a_repository():
    names = {entry.name for entry in TRAINED}
    assert names == {*PLAIN, *(f'kdna_{name}' for name in PLAIN)}
    files = list((ROOT / 'weights').iterdir())
    assert sum(path.stat().st_size for path in files) < 40e6
    listed = {ROOT / e.weights for e in TRAINED}
    logs = {ROOT / e.metadata['Training Log'] for e in TRAINED}
    assert set(files) == listed | logs


@pytest.mark.parametrize('name', PLAIN)
def test_sharing_loses_little(name):
    ours, plain = find(f'kdna_{name}'), find(name)
    sizes = [entry.metadata['Parameters'] for entry in (ours, plain)]
    assert sizes[0] < 0.85 * sizes[1]
    scores = [entry.results[0]['Metrics'] for entry in (ours, plain)]
    # The AP of stricter overlaps: RetinaNet's is 1.0 below.
    for metric in scores[1].keys() - {'box AP', 'mask AP'}:
        assert scores[0][metric] > scores[1][metric] - 0.8, metric


def test_the_index_names_configs_that_are_there():
    for name, entry in read_index().items():
        assert entry.root == str(ROOT)
        assert (ROOT / entry.config).is_file(), name
        if entry.source:
            assert source_url(entry.source).startswith('https://')
        if entry.weights and not is_url(entry.weights):
            path = ROOT / entry.weights
            assert sha256(str(path)) == entry.sha256, name
            assert path.stat().st_size == entry.size, name
