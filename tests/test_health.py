"""The health hook: what a real run logs, draws, and why it stops."""

import json

import cv2
import pytest
import torch
from helpers import CONV_CFG
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import HOOKS, MODELS
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

import mmkdna
from mmkdna.cli import quiet
from mmkdna.errors import BadInput
from mmkdna.health import measure

CHILD, PARENT = 'net.stages.0.0.conv.conv', 'net.stages.0.1.conv.conv'


class Ones(Dataset):
    def __len__(self):
        return 12

    def __getitem__(self, i):
        return torch.full((16, 5, 5), 1 + i / 12)


class Net(BaseModel):
    """A stage of two blocks: one family, if it gets the conv_cfg."""

    def __init__(self, conv_cfg):
        super().__init__()
        self.net = MODELS.build(
            dict(type='Stages', depths=[2], conv_cfg=conv_cfg)
        )

    def forward(self, inputs, mode='tensor'):
        return dict(loss=self.net(torch.stack(inputs)).square().mean())


class Plant(Hook):
    """Write a value into a tensor of the model before an iteration."""

    priority = 'VERY_HIGH'

    def __init__(self, name, value, at):
        self.name, self.value, self.at = name, value, at

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.at:
            runner.model.get_parameter(self.name).data.fill_(self.value)


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Train six iterations of two images; the runner."""
    # It asks the compilers for their versions.
    monkeypatch.setattr(Runner, '_log_env', lambda *args: None)

    def train(*hooks, conv_cfg=CONV_CFG, **kwargs):
        torch.manual_seed(0)
        runner = Runner(
            model=Net(conv_cfg),
            work_dir=str(tmp_path),
            train_dataloader=dict(
                batch_size=2,
                sampler=dict(type='DefaultSampler', shuffle=False),
                dataset=Ones(),
                collate_fn=lambda items: dict(inputs=items),
            ),
            train_cfg=dict(by_epoch=False, max_iters=6),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
            custom_hooks=list(hooks),
            default_hooks=dict(checkpoint=None),
            experiment_name=f'{tmp_path.name}_{len(list(tmp_path.iterdir()))}',
            **kwargs,
        )
        runner.train()
        return runner

    return train


def health(**kwargs):
    return dict(type='KernelDNAHealthHook', **kwargs)


def logged(folder):
    """The lines of the last run that the hook wrote, by step."""
    path = max(folder.glob('*/vis_data/scalars.json'))
    lines = map(json.loads, path.read_text().splitlines())
    start = f'kernel_dna/{PARENT}/'
    return {
        line['step']: {
            key.removeprefix(start): value
            for key, value in line.items()
            if key != 'step'
        }
        for line in lines
        if any(key.startswith(start) for key in line)
    }


def test_a_run_logs_each_family_at_its_interval_and_draws_the_gates(
    train, tmp_path
):
    runner = train(health(interval=4))
    lines = logged(tmp_path)
    assert sorted(lines) == [4, 6]
    assert set(lines[4]) == {
        'gate_mean',
        'gate_saturation',
        'dead_gates',
        'filter_norm',
        'spatial_norm',
    }
    static = runner.model.get_submodule(CHILD).adapter.static
    for half, key in (('filter', 'filter_norm'), ('spatial', 'spatial_norm')):
        expected = getattr(static, half).norm().item()
        assert lines[6][key] == pytest.approx(expected) != 0
        assert lines[6][key] != lines[4][key]
    # It moves from its start, 1.
    assert 0.5 < lines[6]['gate_mean'] < 1.5
    assert lines[6]['gate_mean'] != 1
    (picture,) = tmp_path.glob('*/vis_data/vis_image/kernel_dna_gates_6.png')
    assert cv2.imread(str(picture)).std() > 5


def test_the_training_is_the_same_without_it(train):
    watched = train(health(interval=1)).model
    plain = train().model
    for name, value in plain.state_dict().items():
        assert watched.state_dict()[name].equal(value), name
    for module in watched.modules():
        assert not module._forward_hooks


def test_it_measures_every_image_channel_child_and_level():
    model = nn.Sequential(*(nn.Conv2d(4, 4, 3, padding=1) for _ in '123'))
    mmkdna.convert(
        model, families=[['0', '1', '2']], reduction=2, gate='identity'
    )
    (family,) = mmkdna.list_families(model)
    for scale, (_, child) in enumerate(family.children, 3):
        child.adapter.static.filter.data.fill_(scale / 2)
    gates = {
        # One channel is dead; one is closed for one image alone.
        '0': torch.tensor([[0.01, 0.01, 1, 1.99], [0.02, 1, 1, 1]]),
        '1': torch.tensor([[1.0, 1, 1, 1]]),
    }
    found = measure(family, gates)
    assert found['dead_gates'] == pytest.approx(1 / 8)
    assert found['gate_saturation'] == pytest.approx(4 / 12)
    assert found['gate_mean'] == pytest.approx(10.03 / 12)
    assert found['filter_norm'] == pytest.approx(5)
    assert found['spatial_norm'] == 0
    # A batch without a child, such as a head without proposals.
    assert set(measure(family, {})) == {'filter_norm', 'spatial_norm'}


def test_the_authors_gate_is_closed_at_another_value():
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64))
    mmkdna.convert(model, linear=True, families=[['0', '1']], gate='sigmoid')
    (family,) = mmkdna.list_families(model)
    found = measure(family, {'0': torch.full((2, 64), 0.06)})
    assert found['dead_gates'] == found['gate_saturation'] == 0
    assert 'spatial_norm' not in found
    found = measure(family, {'0': torch.full((2, 64), 0.04)})
    assert found['dead_gates'] == found['gate_saturation'] == 1


GATE = f'{CHILD}.adapter.routing.bias'


@pytest.mark.parametrize(
    ('name', 'value', 'message'),
    [
        (GATE, float('nan'), f'in {GATE}'),
        (f'{PARENT}.weight', float('inf'), f'in {PARENT}.weight'),
        # Finite, but what it computes is not.
        (
            f'{CHILD}.adapter.routing.squeeze',
            3e38,
            f'in the gate of {CHILD}, the loss',
        ),
        (f'{PARENT}.weight', 3e38, 'in the loss'),
    ],
)
def test_a_planted_nan_stops_the_run_and_names_its_layer(
    train, name, value, message
):
    plant = Plant(name, value, at=3)
    with pytest.raises(BadInput, match=f'iteration 4: NaN .* {message}. Res'):
        train(plant, health(interval=1, stop=True))


def test_the_loss_is_watched_between_measurements(train):
    plant = Plant(GATE, float('nan'), at=2)
    with pytest.raises(BadInput, match='iteration 3: .* in the loss.*al=1'):
        train(plant, health(interval=50, stop=True))


def test_without_stop_it_is_said_once_and_the_run_goes_on(train, capsys):
    plant = Plant(GATE, float('nan'), at=2)
    # The model is built before the runner, so before its level counts.
    quiet()
    runner = train(plant, health(interval=1), log_level='ERROR')
    assert runner.iter == 6
    said = capsys.readouterr().out
    first, *_ = said.splitlines()
    assert 'KernelDNA: iteration 3: NaN or infinite values in' in first
    assert f'in {GATE}. Resume from' in first
    for once in ('in the gate of', 'the loss', 'iteration 4', ' more. '):
        assert said.count(once) == 1


def test_a_model_without_families_is_said(train, capsys):
    train(health(), conv_cfg=None, log_level='WARNING')
    assert 'the model has no family, so only' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('argument', 'expected'),
    [
        (dict(interval=0), 'interval=0: expected an int of at least 1'),
        (dict(stop=1), 'stop=1: expected True or False'),
    ],
)
def test_a_wrong_argument_is_named(argument, expected):
    with pytest.raises(BadInput, match=expected):
        HOOKS.build(health(**argument))
