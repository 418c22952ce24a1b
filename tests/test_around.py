"""Averages, resumed runs, replicas, counters and padding."""

import copy
import gc
import weakref

import pytest
import torch
import torch.distributed as dist
from mmcv.cnn import build_conv_layer
from mmengine.model import BaseModel, ExponentialMovingAverage
from mmengine.registry import MODELS
from mmengine.runner import Runner
from pairs import family
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import Dataset
from torch.utils.flop_counter import FlopCounterMode

import mmkdna

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


def replica(model, device):
    """As nn.DataParallel makes it, without a second GPU."""
    copies = {m: m._replicate_for_data_parallel() for m in model.modules()}
    for module, copied in copies.items():
        for key, child in module._modules.items():
            copied._modules[key] = copies.get(child)
        for kind in ('_parameters', '_buffers'):
            for key, tensor in getattr(module, kind).items():
                moved = None if tensor is None else tensor.to(device)
                setattr(copied, key, moved)
    return copies[model]


def test_a_replica_of_data_parallel_takes_the_first_devices_kernel():
    x = X.to('meta')
    assert replica(family(padding=1), 'meta')(x).is_meta


@pytest.fixture
def job():
    """A process group of this process alone."""
    dist.init_process_group(
        'gloo', store=dist.HashStore(), rank=0, world_size=1
    )
    yield
    dist.destroy_process_group()


class Checkpointed(nn.Module):
    """Each layer is computed again in the backward."""

    def __init__(self, layers):
        super().__init__()
        self.layers = layers

    def forward(self, x):
        for layer in self.layers:
            x = checkpoint(layer, x, use_reentrant=True)
        return x


@pytest.mark.parametrize('kind', ['KernelDNA', 'KernelWarehouse'])
def test_a_static_graph_serves_checkpoints_in_ddp(kind, job):
    if kind == 'KernelDNA':
        layers = family(padding=1, members=3)
    else:
        layers = nn.Sequential(
            *(
                build_conv_layer(dict(type=kind), 8, 8, 3, padding=1)
                for _ in range(3)
            )
        )
        mmkdna.form_families(layers)
    alone = copy.deepcopy(layers)
    wrapped = DistributedDataParallel(Checkpointed(layers), static_graph=True)
    for _ in range(2):
        x = torch.randn(3, 8, 6, 6, requires_grad=True)
        wrapped(x).square().mean().backward()
        alone(x).square().mean().backward()
    for ours, theirs in zip(
        layers.parameters(), alone.parameters(), strict=True
    ):
        torch.testing.assert_close(ours.grad, theirs.grad)


def multiply_adds(model, x):
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(x)
    return counter.get_total_flops() // 2


def test_torchs_counter_counts_members_and_their_gates():
    model = family(padding=1, members=3)
    plain = nn.Sequential(*(nn.Conv2d(8, 8, 3, padding=1) for _ in '123'))
    gates = 2 * len(X) * (8 * 4 + 4 * 8)
    assert multiply_adds(model, X) == multiply_adds(plain, X) + gates


def test_eager_fusing_refuses_a_member():
    model = family(padding=1).eval()
    expected = model(X)
    fused = nn.Sequential(model[0], nn.ReLU())
    with pytest.raises(AssertionError, match='fuser method'):
        torch.ao.quantization.fuse_modules(fused, ['0', '1'])
    assert model(X).equal(expected)


def test_dynamic_quantization_leaves_members_alone():
    model = nn.Sequential(*family(linear=True), nn.Linear(8, 8)).eval()
    quantised = torch.ao.quantization.quantize_dynamic(model, {nn.Linear})
    x = torch.randn(3, 5, 8)
    assert type(quantised[2]) is not nn.Linear
    assert quantised[:2](x).equal(model[:2](x))


def test_padding_moves_an_image_and_its_batch_does_not():
    """The gate pools the padding of a batch, as the documentation says."""
    model = family(padding=1).eval()
    alone = model(X[:1])
    torch.testing.assert_close(model(X)[:1], alone)
    padded = nn.functional.pad(X[:1], (0, 6, 0, 6))
    inside = (slice(None), slice(None), slice(4), slice(4))
    assert not torch.allclose(model(padded)[inside], alone[inside])
    for layer in model:
        if layer.role == 'child':
            # It is the same for every input then.
            layer.adapter.routing.excite.data.zero_()
    torch.testing.assert_close(
        model(padded)[inside], model(X[:1])[inside], rtol=1e-5, atol=1e-6
    )
