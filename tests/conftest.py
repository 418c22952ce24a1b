"""Fixtures and hooks that several test modules need."""

import importlib.util
import json
import logging
import os
from importlib import metadata

# Before torch is imported: the tests' processes share the cores.
os.environ.setdefault('OMP_NUM_THREADS', '1')

import pytest
import torch
import yaml
from helpers import ROOT
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, init_default_scope
from mmengine.utils import ManagerMixin
from zoo_server import BODY, FILE, ZooServer

import mmkdna

MOST_PROCESSES = 4
"""Each takes about 2 GB of memory."""


MODULES = 'torch torchvision mmengine mmcv mmdet mmseg mmpretrain numpy'


def pytest_report_header():
    """The versions, whatever the distributions are called."""
    found = metadata.packages_distributions()
    return ', '.join(
        f'{name} {metadata.version(found[name][0])}'
        for name in MODULES.split()
    )


def pytest_xdist_auto_num_workers(config):
    """As many processes as cores for all tests, one for some of them."""
    if config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        return 0
    cores = getattr(os, 'sched_getaffinity', lambda _: range(os.cpu_count()))
    return min(len(cores(0)), MOST_PROCESSES)


def _forget(manager):
    """Forget mmengine's global objects: scope, logger, visualizer and so on.

    Two runners that start in one second have one name: in one process, the
    second would get those of the first, its scope only if no other came since.
    """
    manager._instance_dict.clear()
    for kind in manager.__subclasses__():
        _forget(kind)


@pytest.fixture(autouse=True)
def _reproducible():
    torch.manual_seed(0)
    init_default_scope('mmengine')
    # Tools that ran in this process leave their choice of loading here.
    environment = {**os.environ}
    yield
    _forget(ManagerMixin)
    os.environ.clear()
    os.environ.update(environment)


@pytest.fixture
def log(caplog):
    """What mmengine's logger says, as caplog."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    # A tool may have run in this process, and tools are quiet.
    logger.setLevel(logging.INFO)
    logger.addHandler(caplog.handler)
    caplog.set_level(logging.INFO)
    yield caplog
    logger.removeHandler(caplog.handler)
    logger.setLevel(level)


@pytest.fixture
def server():
    server = ZooServer({FILE: BODY})
    yield server
    server.close()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, no mirrors."""
    folder = tmp_path / 'cache'
    monkeypatch.setenv('MMKDNA_HOME', str(folder))
    monkeypatch.delenv('MMKDNA_ZOO', raising=False)
    return folder


@pytest.fixture
def index(tmp_path, monkeypatch):
    """Write an index of these entries, the one that is used from here on."""
    root = tmp_path / 'index'

    def index(*models, text=None):
        (root / 'configs').mkdir(parents=True, exist_ok=True)
        (root / 'model-index.yml').write_text('Import: [configs/a.yml]\n')
        (root / 'configs/a.yml').write_text(
            text or yaml.safe_dump({'Models': models})
        )
        monkeypatch.setattr('mmkdna.zoo.index.default_root', lambda: str(root))
        return root

    return index


@pytest.fixture
def build():
    """Build stages; each argument is a stage's number of blocks."""

    def build(*depths, channels=16, strided=False, **conv_cfg):
        conv_cfg = dict(type='KernelDNA', **{'min_channels': 16, **conv_cfg})
        return MODELS.build(
            dict(
                type='Stages',
                depths=depths,
                channels=channels,
                conv_cfg=conv_cfg,
                strided=strided,
            )
        )

    return build


@pytest.fixture
def names():
    """Families as short text: children <- parent, block numbers only."""

    def names(model):
        return [
            str(family).replace('stages.', '').replace('.conv.conv', '')
            for family in mmkdna.list_families(model)
        ]

    return names


@pytest.fixture
def tool():
    """Load a tool by its name."""

    def tool(name):
        spec = importlib.util.spec_from_file_location(
            f'tool_{name}', ROOT / 'tools' / f'{name}.py'
        )
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return tool


@pytest.fixture
def logged(tmp_path):
    """Write what a run logs, in a folder of its time."""

    def logged(time, *lines):
        log = tmp_path / time / 'vis_data/scalars.json'
        log.parent.mkdir(parents=True)
        log.write_text('\n'.join(map(json.dumps, lines)))
        return tmp_path

    return logged
