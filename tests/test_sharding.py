"""FSDP and DDP over real processes: a family is whole wherever it runs."""

import copy

import pytest
import torch
import torch.distributed as dist
from helpers import processes
from mmcv.cnn import build_conv_layer
from pairs import family
from torch import nn
from torch.distributed import fsdp
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

import mmkdna
from mmkdna.sharding import whole_families

AGREE = (
    *(f'fsdp1 {units}' for units in ('whole', 'stage', 'block')),
    *(f'fsdp2 {units}' for units in ('whole', 'stage', 'block')),
    'fsdp2 checkpointed block',
    'fsdp2 whole without',
    'fsdp2 stage without',
    'fsdp2 block kept whole',
    'static graph',
    'ddp checkpointed block',
    'fsdp2 mixed block',
    'fsdp1 mixed block',
)
# What would go wrong says so before the first step, and what to do.
REFUSED = {
    'fsdp2 without': 'mmkdna.shard_families(model)',
    'fsdp2 reentrant': 'use_reentrant=False',
    'fsdp1 without': "auto_wrap_policy=dict(type='whole_families'",
    'ddp reentrant': 'static_graph=True',
    'warehouse reentrant': 'static_graph=True',
}


def can_run(name):
    """FSDP2 runs on CPUs since it has a public name; before, on GPUs alone."""
    return not name.startswith('fsdp2') or hasattr(fsdp, 'fully_shard')


@pytest.mark.parametrize(
    'number', [2, pytest.param(4, marks=pytest.mark.slow)]
)
def test_sharded_steps_are_those_of_ddp(number):
    out = processes(number, 'sharded_steps.py')
    for rank in range(number):
        for name in filter(can_run, AGREE):
            assert f'rank {rank}: {name} agrees' in out
        for name in filter(can_run, REFUSED):
            text = out.partition(f'rank {rank}: {name}: ')[2]
            assert REFUSED[name] in text.partition('\n')[0]


def test_a_policy_of_whole_families_cuts_none():
    model = nn.Sequential(
        nn.Sequential(nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3)),
        nn.Sequential(nn.Conv2d(16, 16, 3)),
        nn.Sequential(nn.Conv2d(16, 16, 3)),
    )
    mmkdna.convert(model, min_channels=8)

    def units(**kwargs):
        return [
            name
            for name, module in model.named_modules()
            if whole_families(module, False, 500, **kwargs)
            and 'routing' not in name
        ]

    assert units(policy=lambda **_: True) == ['', '0']
    assert units(policy=lambda **_: False) == []
    # By the names of torch's policies, whose arguments pass through.
    assert units(min_num_params=100) == ['', '0']
    assert units(min_num_params=1000) == []


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


def blocks(children=1):
    """Each layer of a family in a block of its own."""
    layers = family(padding=1, members=children + 1).double()
    return nn.Sequential(*(nn.Sequential(layer) for layer in layers))


def shard(model, families=True, whole=nn.Sequential):
    """By FSDP2, each block a unit, and the whole around them."""
    if not can_run('fsdp2'):
        pytest.skip('FSDP2 needs a GPU here')
    mesh = init_device_mesh('cpu', (1,))
    if families:
        mmkdna.shard_families(model, mesh=mesh)
    for block in model:
        fsdp.fully_shard(block, mesh=mesh)
    return fsdp.fully_shard(whole(model), mesh=mesh)


X = torch.randn(3, 8, 6, 6, dtype=torch.double)


def test_a_child_in_another_unit_than_its_parent_trains(job):
    alone = blocks()
    sharded = shard(copy.deepcopy(alone))
    for model in (alone, sharded):
        model(X).square().mean().backward()
    for ours, theirs in zip(
        sharded.parameters(), alone.parameters(), strict=True
    ):
        torch.testing.assert_close(ours.grad.full_tensor(), theirs.grad)
    with torch.no_grad():
        torch.testing.assert_close(sharded.eval()(X), alone.eval()(X))


def test_a_kernel_that_is_not_gathered_is_refused(job):
    with pytest.raises(RuntimeError, match=r'sharded.*shard_families\(model'):
        shard(blocks(), families=False)(X)


def test_reentrant_checkpoints_of_a_shared_kernel_are_refused(job):
    wrapped = shard(blocks(2), whole=Checkpointed)
    x = X.clone().requires_grad_()
    with pytest.raises(RuntimeError, match='use_reentrant=False'):
        wrapped(x)
    wrapped = DistributedDataParallel(Checkpointed(blocks(2)))
    with pytest.raises(RuntimeError, match='static_graph=True'):
        wrapped(x)


def test_reentrant_checkpoints_of_frozen_families_are_exact(job):
    alone = blocks(2).requires_grad_(False)
    found = []
    for model in (shard(copy.deepcopy(alone), whole=Checkpointed), alone):
        x = X.clone().requires_grad_()
        model(x).square().mean().backward()
        found.append(x.grad)
    torch.testing.assert_close(*found)


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
