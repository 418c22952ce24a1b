"""From a run's checkpoint to a file of the zoo."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
import yaml
from helpers import ROOT
from mmengine.config import Config
from safetensors import safe_open

import mmkdna
from mmkdna.checkpoint import read_checkpoint
from mmkdna.errors import BadInput
from mmkdna.measure.configs import build_model, twin_of

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


def test_a_run_of_iterations_has_no_epochs(publish, model):
    saved = run(model)
    saved['meta'] |= dict(epoch=0, iter=30, seed=0)
    metadata = publish(saved)['Metadata']
    assert 'Epochs' not in metadata
    assert (metadata['Iterations'], metadata['Seed']) == (30, 0)


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


def test_averaged_weights_are_published_on_request(publish, model, tmp_path):
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


def test_weights_that_do_not_fit_the_config_are_not_published(
    publish, model, tmp_path
):
    plain = build_model(twin_of(Config.fromfile(CONFIG)))
    with pytest.raises(BadInput, match='weight is the kernel of a plain lay'):
        publish(run(plain))
    with pytest.raises(BadInput, match=r"missing \['backbone.*unexpected"):
        publish(dict(state_dict={'weight': torch.ones(2)}))
    with pytest.raises(BadInput, match='has no state_dict'):
        publish(dict(weights=torch.ones(2)))
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('name', ['a/b', '../b', ' ', '-x'])
def test_a_name_that_no_entry_may_have_is_refused(
    publish, model, tmp_path, capsys, name
):
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
