"""From a run's checkpoint to a file of the zoo; weights made of others'."""

import hashlib
import json
from pathlib import Path

import pytest
import requests
import torch
import yaml
from helpers import ROOT
from mmengine.config import Config
from mmengine.runner import CheckpointLoader
from safetensors import safe_open
from safetensors.torch import save_file
from zoo_server import ZooServer

import mmkdna
from mmkdna.checkpoint import read_checkpoint
from mmkdna.errors import BadInput
from mmkdna.measure.configs import build_model, twin_of
from mmkdna.zoo import derive, download
from mmkdna.zoo.__main__ import main as zoo
from mmkdna.zoo.derive import source_url
from mmkdna.zoo.index import read_index

CONFIG = f'{ROOT}/configs/digits/adopted_r18.py'


@pytest.fixture(scope='module')
def model():
    torch.manual_seed(0)
    return build_model(Config.fromfile(CONFIG))


@pytest.fixture
def publish(tool, capsys, tmp_path):
    def publish(checkpoint, *options):
        torch.save(checkpoint, tmp_path / 'run.pth')
        out = str(tmp_path / 'out')
        arguments = [str(tmp_path / 'run.pth'), CONFIG, out, *options]
        tool('publish_model').main(arguments)
        (entry,) = yaml.safe_load(capsys.readouterr().out)
        return entry

    return publish


def run(model, **more):
    """What a run saves of this model."""
    return dict(
        state_dict=model.state_dict(),
        optimizer=dict(state={0: torch.ones(9)}),
        meta=dict(dataset_meta=dict(classes=['0', '1'])),
        **more,
    )


def test_a_published_file_is_the_model_and_says_what_it_is(
    publish, model, tmp_path
):
    entry = publish(run(model), '--name', 'digits')
    (path,) = (tmp_path / 'out').iterdir()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.name == f'digits-{digest[:8]}.safetensors'
    assert entry['Name'] == 'digits'
    assert entry['Metadata']['SHA-256'] == digest
    assert entry['Metadata']['Size (bytes)'] == path.stat().st_size
    assert entry['Metadata']['Parameters'] == sum(
        p.numel() for p in model.parameters()
    )
    assert entry['Results'] == []
    loaded = read_checkpoint(str(path))
    assert set(loaded) == {'state_dict', 'meta'}
    assert loaded['meta']['dataset_meta'] == {'classes': ['0', '1']}
    for name, value in model.state_dict().items():
        assert loaded['state_dict'][name].equal(value), name
    with safe_open(path, 'pt') as file:
        notes = file.metadata()
    assert "type='KernelDNA'" in notes['config']
    assert notes['mmkdna_version'] == mmkdna.__version__
    families = json.loads(notes['families'])
    assert [f['parent'] for f in families] == [
        family.parent.name for family in mmkdna.list_families(model)
    ]


def test_the_entry_says_how_it_was_trained(publish, model, tmp_path):
    saved = run(model)
    saved['meta'] |= dict(epoch=3, iter=30, seed=7)
    logs = ['{"loss": 2.0}', '{"loss": 1.0}']
    for day, line in enumerate(logs):
        log = tmp_path / f'2026112{day}/vis_data/scalars.json'
        log.parent.mkdir(parents=True)
        log.write_text(line + '\n')
    metadata = publish(saved, '--dataset', 'scenes')['Metadata']
    assert metadata['Training Data'] == 'scenes'
    assert [metadata[k] for k in ('Epochs', 'Iterations', 'Seed')] == [
        3,
        30,
        7,
    ]
    (path,) = (tmp_path / 'out').glob('*.log.json')
    assert path.read_text().splitlines() == logs
    assert (Path.cwd() / metadata['Training Log']).samefile(path)
    assert path.stem.removesuffix('.log') in {
        p.stem for p in (tmp_path / 'out').glob('*.safetensors')
    }


def test_a_score_needs_the_name_of_its_data(publish, model, capsys):
    with pytest.raises(SystemExit):
        publish(run(model), '--test')
    assert '--test needs --dataset' in capsys.readouterr().err


def test_half_precision_is_half_the_size(publish, model, tmp_path):
    whole = publish(run(model))['Metadata']['Size (bytes)']
    half = publish(run(model), '--half')['Metadata']['Size (bytes)']
    assert 0.5 * whole < half < 0.52 * whole
    weights = model.state_dict()
    key = 'head.fc.bias'
    weights[key] = torch.full_like(weights[key], 1e6)
    with pytest.raises(BadInput, match='head.fc.bias is too large for float'):
        publish(run(model) | {'state_dict': weights}, '--half')


def test_averaged_weights_on_request(publish, model, tmp_path):
    # mmengine's hook puts the averaged ones in the state dict.
    averaged = {key: value + 1 for key, value in model.state_dict().items()}
    trained = {f'module.{k}': v for k, v in model.state_dict().items()}
    saved = run(model, ema_state_dict=dict(trained, steps=torch.tensor(3)))
    saved['state_dict'] = averaged
    key = 'head.fc.bias'
    for options, expected in (
        ([], trained[f'module.{key}']),
        (['--ema'], averaged[key]),
    ):
        entry = publish(saved, *options)
        (path,) = (tmp_path / 'out').glob(entry['Weights'].rpartition('/')[2])
        assert read_checkpoint(str(path))['state_dict'][key].equal(expected)
    with pytest.raises(BadInput, match='--ema: .* has no averaged weights'):
        publish(run(model), '--ema')


def test_what_is_not_published(publish, model, tmp_path):
    plain = build_model(twin_of(Config.fromfile(CONFIG)))
    with pytest.raises(BadInput, match='weight is the kernel of a plain lay'):
        publish(run(plain))
    with pytest.raises(BadInput, match=r"missing \['backbone.*unexpected"):
        publish(dict(state_dict={'weight': torch.ones(2)}))
    with pytest.raises(BadInput, match='has no state_dict'):
        publish(dict(weights=torch.ones(2)))
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('name', ['a/b', '../b', ' ', '-x'])
def test_names_that_no_entry_may_have(publish, model, tmp_path, capsys, name):
    with pytest.raises(SystemExit):
        publish(run(model), f'--name={name}')
    assert 'expected letters, digits' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_weights_of_before_get_the_names_of_now(publish, model, tmp_path):
    saved = run(model)
    saved['state_dict'] = {
        key.replace('routing.bias', 'routing.excite_bias'): value
        for key, value in model.state_dict().items()
    }
    assert set(saved['state_dict']) != set(model.state_dict())
    publish(saved)
    (path,) = (tmp_path / 'out').iterdir()
    weights = read_checkpoint(str(path))['state_dict']
    assert set(weights) == set(model.state_dict())
    for name, value in model.state_dict().items():
        assert weights[name].equal(value), name


@pytest.fixture
def upstream(tmp_path, monkeypatch):
    """A plain backbone on a server, as torchvision names its files."""
    monkeypatch.setenv('MMKDNA_HOME', str(tmp_path / 'cache'))
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
    upstream, tmp_path, monkeypatch, capsys
):
    server, plain, url = upstream
    root = tmp_path / 'index'
    root.mkdir()
    (root / 'config.py').write_text(f"_base_ = '{CONFIG}'")
    (root / 'model-index.yml').write_text('Import: [a.yml]')
    entry = {'Name': 'made', 'Config': 'config.py'}
    entry['Metadata'] = {'Derived From': url}
    (root / 'a.yml').write_text(yaml.safe_dump({'Models': [entry]}))
    monkeypatch.setattr('mmkdna.zoo.index.default_root', lambda: str(root))

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
    assert f'made: {tmp_path}/cache/made-' in capsys.readouterr().out
    # The second time it is there, the source is not asked for.
    made = CheckpointLoader.load_checkpoint('mmkdna://made')
    assert len(server.requests) == 1
    assert made['meta']['source'] == url
    # Another config is another file.
    (root / 'config.py').write_text(
        f"_base_ = '{CONFIG}'\n"
        'model = dict(backbone=dict(conv_cfg=dict(min_channels=256)))'
    )
    before = derive.derive(read_index().find('made'), read_index())
    assert len(list((tmp_path / 'cache').glob('made-*.safetensors'))) == 2
    assert Path(before).is_file()


def test_where_a_source_is():
    assert source_url('torchvision://resnet50').startswith('https://')
    assert source_url('http://x/y.pth') == 'http://x/y.pth'
    with pytest.raises(BadInput, match='torchvision:// has no resnet51'):
        source_url('torchvision://resnet51')
    with pytest.raises(BadInput, match='expected a URL or a name of'):
        source_url('y.pth')
    with pytest.raises(BadInput, match='how its SHA-256 begins'):
        derive._upstream('http://x/y.pth')


def test_a_safetensors_file_loads_by_its_path(tmp_path):
    path = tmp_path / 'weights.safetensors'
    notes = {'dataset_meta': '{"classes": ["a"]}'}
    save_file({'a': torch.ones(2)}, path, notes)
    loaded = CheckpointLoader.load_checkpoint(str(path))
    assert loaded['state_dict']['a'].equal(torch.ones(2))
    assert loaded['meta']['dataset_meta'] == {'classes': ['a']}
    # An address of the web that ends so is not a file.
    with pytest.raises((requests.RequestException, OSError)):
        CheckpointLoader.load_checkpoint('http://127.0.0.1:9/a.safetensors')
