"""`mim download mmkdna`, from a wheel, of a real server on loopback."""

import os
import shutil
import subprocess
import sys
import zipfile

import pytest
from helpers import ROOT
from mmengine.config import Config
from zoo_server import ZooServer

from mmkdna.zoo.index import find

SOURCES = (
    'configs',
    'mmkdna',
    'tools',
    'MANIFEST.in',
    'README.md',
    'model-index.yml',
    'pyproject.toml',
    'setup.py',
)
NAME = 'kdna_r18_digits'


@pytest.fixture
def run(tmp_path):
    """Run a module without an index, not where the repository is found."""
    offline = {'PIP_NO_INDEX': '1', 'PIP_DISABLE_PIP_VERSION_CHECK': '1'}

    def run(*command, **env):
        done = subprocess.run(
            [sys.executable, '-m', *map(str, command)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, **offline, **env},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture
def server():
    folder = ROOT / 'weights'
    server = ZooServer({p.name: p.read_bytes() for p in folder.iterdir()})
    yield server
    server.close()


@pytest.fixture
def wheel(run, tmp_path):
    """Build one; the weights are below a URL, or inside."""

    def wheel(url=''):
        source = tmp_path / 'source'
        source.mkdir()
        for name in SOURCES:
            if (ROOT / name).is_dir():
                ignore = shutil.ignore_patterns('__pycache__')
                shutil.copytree(ROOT / name, source / name, ignore=ignore)
            else:
                shutil.copy(ROOT / name, source)
        (source / 'weights').mkdir()
        (source / 'weights/a.safetensors').touch()
        (source / 'weights/a.log.json').touch()
        options = ('--no-deps', '--no-build-isolation', '-w', tmp_path)
        run('pip', 'wheel', *options, source, MMKDNA_WEIGHTS_URL=url)
        (path,) = tmp_path.glob('*.whl')
        return path

    return wheel


def test_mim_finds_and_fetches_an_entry(run, server, wheel, tmp_path):
    site = tmp_path / 'site'
    path = wheel(f'{server.url}/ok/')
    run('pip', 'install', '--no-deps', '--target', site, path)
    env = {'PYTHONPATH': str(site), 'HOME': str(tmp_path)}
    found = run('mim', 'search', 'mmkdna', '--valid-config', **env)
    assert f"'{NAME}'" in found
    out = tmp_path / 'out'
    options = ('--config', NAME, '--dest', out)
    run('mim', 'download', 'mmkdna', *options, **env)
    entry = find(NAME)
    own = ROOT / entry.weights
    assert (out / own.name).read_bytes() == own.read_bytes()
    cfg = Config.fromfile(out / f'{NAME}.py')
    assert cfg.model == Config.fromfile(ROOT / entry.config).model
    # The installed zoo fetches from there, too.
    env['MMKDNA_HOME'] = str(tmp_path / 'cache')
    fetched = run('mmkdna.zoo', 'download', NAME, **env)
    assert str(tmp_path / 'cache' / own.name) in fetched
    assert server.asked('ok') == [None, None]


def test_a_wheel_has_the_weights_or_knows_where_they_are(wheel):
    with zipfile.ZipFile(wheel()) as archive:
        names = set(archive.namelist())
        index = archive.read('mmkdna/.mim/configs/digits/metafile.yml')
    assert 'mmkdna/.mim/weights/a.safetensors' in names
    assert 'mmkdna/.mim/tools/train.py' in names
    assert b' Weights: weights/kdna_r18_digits-' in index
