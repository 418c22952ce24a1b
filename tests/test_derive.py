"""Entries of the zoo that are made of the weights of others."""

import hashlib
from pathlib import Path

import pytest
import torch
from helpers import ROOT
from mmengine.config import Config
from mmengine.runner import CheckpointLoader
from zoo_server import ZooServer

import mmkdna
from mmkdna.errors import BadInput
from mmkdna.measure.configs import build_model, twin_of
from mmkdna.zoo import derive, download
from mmkdna.zoo.__main__ import main as zoo
from mmkdna.zoo.derive import source_url

CONFIG = f'{ROOT}/configs/digits/adopted_r18.py'


@pytest.fixture
def upstream(tmp_path, cache, monkeypatch):
    """A plain backbone on a server, as torchvision names its files."""
    monkeypatch.setattr(download, 'BACK_OFF', 0.01)
    plain = build_model(twin_of(Config.fromfile(CONFIG))).backbone
    state = {**plain.state_dict(), 'fc.weight': torch.ones(1000, 512)}
    torch.save(state, tmp_path / 'plain.pth')
    body = (tmp_path / 'plain.pth').read_bytes()
    name = f'resnet18-{hashlib.sha256(body).hexdigest()[:8]}.pth'
    server = ZooServer({name: body})
    yield server, plain, f'{server.url}/ok/{name}'
    server.close()


def test_a_derived_entry_is_made_of_the_pretrained_weights(
    upstream, index, cache, capsys
):
    server, plain, url = upstream
    entry = {'Name': 'made', 'Config': 'config.py'}
    entry['Metadata'] = {'Derived From': url}
    config = index(entry) / 'config.py'
    config.write_text(f"_base_ = '{CONFIG}'")

    # As its init_cfg says, in the constructor's place.
    cfg = Config.fromfile(CONFIG)
    cfg.model.backbone.init_cfg = dict(
        type='Pretrained', checkpoint='mmkdna://made'
    )
    model = build_model(cfg)
    model.init_weights()
    zoo(['verify'])
    assert len(server.requests) == 1
    ours, theirs = model.backbone.state_dict(), plain.state_dict()
    assert [key for key in ours if key not in theirs]
    for key in set(ours) & set(theirs):
        assert ours[key].equal(theirs[key]), key
    for family in mmkdna.list_families(model.backbone):
        kernel = theirs[f'{family.parent.name}.weight']
        for name, child in family.children:
            assert child.kernel().equal(kernel), name
            assert child.adapter.routing.is_open(), name
    zoo(['where', 'made'])
    assert f'made: {cache}/made-' in capsys.readouterr().out
    # The second time it is there, the source is not asked for.
    made = CheckpointLoader.load_checkpoint('mmkdna://made')
    assert len(server.requests) == 1
    assert made['meta']['source'] == url
    # Another config is another file.
    config.write_text(
        f"_base_ = '{CONFIG}'\n"
        'model = dict(backbone=dict(conv_cfg=dict(min_channels=256)))'
    )
    assert Path(derive.locate('made')).is_file()
    assert len(list(cache.glob('made-*.safetensors'))) == 2


def test_a_source_is_a_url_or_a_name_of_torchvision():
    assert source_url('torchvision://resnet50').startswith('https://')
    assert source_url('http://x/y.pth') == 'http://x/y.pth'
    with pytest.raises(BadInput, match='torchvision:// has no resnet51'):
        source_url('torchvision://resnet51')
    with pytest.raises(BadInput, match='expected a URL or a name of'):
        source_url('y.pth')
    with pytest.raises(BadInput, match='how its SHA-256 begins'):
        derive._upstream('http://x/y.pth')
