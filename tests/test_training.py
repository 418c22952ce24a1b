"""Training as ever: averages, resumed runs, what is kept and trained."""

import gc
import weakref

import pytest
import torch
from mmengine.model import BaseModel, ExponentialMovingAverage
from mmengine.registry import MODELS
from mmengine.runner import Runner
from pairs import family
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import Dataset

X = torch.randn(3, 8, 6, 6)
KINDS = [dict(padding=1, norm='BN'), dict(padding=1), dict(linear=True)]


def x_for(model):
    return torch.randn(3, 5, 8) if hasattr(model[0], 'in_features') else X


def train(model, x, steps=3, after=lambda: None):
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
        after()


@pytest.mark.parametrize('kwargs', KINDS, ids=str)
def test_training_keeps_the_set_of_parameters_and_buffers(kwargs):
    model = family(members=3, **kwargs)

    def tensors():
        named = [*model.named_parameters(), *model.named_buffers()]
        return [(name, id(tensor)) for name, tensor in named]

    before, keys = tensors(), list(model.state_dict())
    train(model, x_for(model))
    model.eval()(x_for(model))
    assert tensors() == before
    assert list(model.state_dict()) == keys


@pytest.mark.parametrize(
    'average',
    [
        lambda m: AveragedModel(m, multi_avg_fn=get_ema_multi_avg_fn(0.5)),
        lambda m: AveragedModel(
            m, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=True
        ),
        lambda m: ExponentialMovingAverage(m, 0.5),
        lambda m: ExponentialMovingAverage(m, 0.5, update_buffers=True),
    ],
    ids=['torch', 'torch with buffers', 'mmengine', 'mmengine with buffers'],
)
@pytest.mark.parametrize('kwargs', KINDS, ids=str)
def test_an_average_of_the_weights_comes_to_the_model(kwargs, average):
    model = family(members=3, **kwargs)
    x = x_for(model)
    averaged = average(model)
    start = averaged.module.eval()(x)
    train(model, x, after=lambda: averaged.update_parameters(model))
    for _ in range(40):
        averaged.update_parameters(model)
    expected = model.eval()(x)
    assert not torch.allclose(start, expected)
    torch.testing.assert_close(averaged.module.eval()(x), expected)
    assert set(averaged.module.state_dict()) == set(model.state_dict())


@pytest.mark.parametrize('asked', [True, False])
@pytest.mark.parametrize('kwargs', KINDS, ids=str)
def test_the_biases_alone_may_be_trained(kwargs, asked):
    model = family(**kwargs)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in ('0.bias', '1.bias'))
    x = x_for(model).clone().requires_grad_(asked)
    model(x).square().mean().backward()
    for layer in model:
        assert layer.bias.grad.abs().sum() > 0
    assert (x.grad is not None) == asked


class Noise(Dataset):
    def __len__(self):
        return 32

    def __getitem__(self, i):
        generator = torch.Generator().manual_seed(i)
        return torch.randn(16, 4, 4, generator=generator)


class Means(BaseModel):
    """Stages that learn to give the mean of their input."""

    def __init__(self):
        super().__init__()
        conv_cfg = dict(type='KernelDNA', min_channels=16)
        self.backbone = MODELS.build(
            dict(type='Stages', depths=[3], conv_cfg=conv_cfg)
        )

    def forward(self, inputs, mode='tensor'):
        x = torch.stack(inputs)
        error = self.backbone(x) - x.mean((2, 3), keepdim=True)
        return dict(loss=error.square().mean())


def test_a_resumed_run_is_the_whole_run(tmp_path, monkeypatch):
    # It asks the compilers for their versions.
    monkeypatch.setattr(Runner, '_log_env', lambda *args: None)

    def run(name, **kwargs):
        torch.manual_seed(0)
        runner = Runner(
            model=Means(),
            work_dir=str(tmp_path / name),
            train_dataloader=dict(
                batch_size=4,
                sampler=dict(type='DefaultSampler', shuffle=False),
                dataset=Noise(),
                collate_fn=lambda items: dict(inputs=items),
            ),
            train_cfg=dict(by_epoch=False, max_iters=8),
            optim_wrapper=dict(
                optimizer=dict(type='AdamW', lr=0.01), accumulative_counts=2
            ),
            custom_hooks=[dict(type='EMAHook', momentum=0.5)],
            default_hooks=dict(
                checkpoint=dict(
                    type='CheckpointHook', by_epoch=False, interval=4
                ),
                logger=None,
            ),
            experiment_name=f'{tmp_path.name}_{name}',
            log_level='ERROR',
            **kwargs,
        )
        runner.train()
        ema = next(h for h in runner.hooks if hasattr(h, 'ema_model'))
        return {
            **runner.model.state_dict(prefix='model.'),
            **ema.ema_model.state_dict(prefix='ema.'),
        }

    whole = run('whole')
    half = str(tmp_path / 'whole' / 'iter_4.pth')
    resumed = run('resumed', load_from=half, resume=True)
    assert set(resumed) == set(whole)
    for key, value in whole.items():
        assert resumed[key].equal(value), key


@pytest.mark.parametrize('kwargs', KINDS, ids=str)
def test_a_forward_in_training_without_a_loss_leaves_nothing(kwargs):
    model = family(members=3, **kwargs).train()
    x = x_for(model)
    seen = []
    for layer in model:
        layer.register_forward_hook(
            lambda *args: seen.append(weakref.ref(args[-1]))
        )
    for _ in range(3):
        model(x)
    gc.collect()
    assert len(seen) == 9
    assert not any(reference() is not None for reference in seen)
