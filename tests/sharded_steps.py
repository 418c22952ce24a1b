"""One process of test_sharding: five steps sharded, and by DDP."""

import functools

import torch
import torch.distributed as dist
from mmengine.registry import MODEL_WRAPPERS, MODELS
from mmpretrain.models.backbones.resnet import Bottleneck
from torch import nn
from torch.distributed import fsdp
from torch.distributed.algorithms._checkpoint import (
    checkpoint_wrapper as checkpoints,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    FullStateDictConfig,
    FullyShardedDataParallel,
    MixedPrecision,
    StateDictType,
)
from torch.nn.parallel import DistributedDataParallel

import mmkdna

# FSDP2 runs on CPUs since it has this public name; before, on GPUs alone.
fully_shard = getattr(fsdp, 'fully_shard', None)

UNITS = {
    'whole': (),
    'stage': tuple(f'backbone.layer{i}' for i in range(1, 5)),
    'block': Bottleneck,
}


OURS = dict(type='KernelDNA', min_channels=32)
GROUPS = {'BN': {}, 'GN': dict(num_groups=8)}


class Net(nn.Module):
    def __init__(self, with_cp=False, norm='BN', conv_cfg=OURS):
        super().__init__()
        self.backbone = MODELS.build(
            dict(
                type='mmpretrain.ResNet',
                depth=50,
                base_channels=8,
                stem_channels=8,
                with_cp=with_cp,
                norm_cfg=dict(type=norm, **GROUPS[norm]),
                conv_cfg=conv_cfg,
            )
        )
        for family in mmkdna.list_families(self):
            for _, child in family.children:
                nn.init.normal_(child.adapter.static.filter, std=0.1)
                nn.init.normal_(child.adapter.routing.excite, std=0.1)

    def forward(self, x):
        return self.backbone(x)[-1]


def build(dtype=torch.float64, **kwargs):
    torch.manual_seed(0)
    # In double: rounding grows with each step, and sums have other orders.
    return Net(**kwargs).to(dtype)


def is_unit(name, module, units):
    chosen = UNITS[units]
    if isinstance(chosen, tuple):
        return name in chosen
    return isinstance(module, chosen)


def steps(model, count=5):
    """The losses of some steps on this process's images."""
    rank, size = dist.get_rank(), dist.get_world_size()
    dtype = next(model.parameters()).dtype
    optimizer = torch.optim.SGD(model.parameters(), lr=0.005, momentum=0.9)
    images = torch.Generator().manual_seed(1)
    losses = []
    for _ in range(count):
        x = torch.randn(2 * size, 3, 64, 64, generator=images).to(dtype)
        loss = model(x[2 * rank : 2 * rank + 2]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def checkpoint_blocks(model):
    """Not reentrant, as torch's wrapper has it."""
    checkpoints.apply_activation_checkpointing(
        model, check_fn=lambda module: isinstance(module, Bottleneck)
    )
    return model


def without_wrapper(state):
    """A state dict under the names of the module without checkpoints."""
    return {
        key.replace('_checkpoint_wrapped_module.', ''): value.full_tensor()
        if hasattr(value, 'full_tensor')
        else value
        for key, value in state.items()
    }


def fsdp2(units, families=True, checkpoint=False, model=None, **kwargs):
    model = model or build()
    if checkpoint:
        checkpoint_blocks(model)
    mesh = init_device_mesh('cpu', (dist.get_world_size(),))
    if families:
        mmkdna.shard_families(model, mesh=mesh, **kwargs)
    for name, module in list(model.named_modules()):
        name = name.replace('_checkpoint_wrapped_module.', '')
        if is_unit(name, module, units):
            fully_shard(module, mesh=mesh, **kwargs)
    fully_shard(model, mesh=mesh, **kwargs)
    losses = steps(model)
    return losses, without_wrapper(model.state_dict())


def fsdp1(units, families=True, model=None, **kwargs):
    model = model or build()
    chosen = {m for n, m in model.named_modules() if is_unit(n, m, units)}

    def policy(module, recurse, nonwrapped_numel):
        return recurse or module in chosen

    whole = dict(type='whole_families', policy=policy)
    model = MODEL_WRAPPERS.build(
        dict(
            type='MMFullyShardedDataParallel',
            module=model,
            auto_wrap_policy=whole if families else policy,
            device_id=torch.device('cpu'),
            **kwargs,
        )
    )
    losses = steps(model)
    with FullyShardedDataParallel.state_dict_type(
        model, StateDictType.FULL_STATE_DICT, FullStateDictConfig()
    ):
        return losses, model.state_dict()


def check(name, run, losses, weights, rtol=1e-5, atol=1e-6):
    if name.startswith('fsdp2') and fully_shard is None:
        return
    got, state = run()
    torch.testing.assert_close(got.to(losses), losses, rtol=rtol, atol=0)
    assert list(state) == list(weights)
    for key, value in weights.items():
        # Statistics are of each process's own images.
        if 'running' not in key and 'num_batches' not in key:
            torch.testing.assert_close(
                state[key].to(value),
                value,
                rtol=rtol,
                atol=atol,
                msg=f'{name}: {key}',
            )
    print(f'rank {dist.get_rank()}: {name} agrees', flush=True)


def refused(name, run):
    try:
        run()
    except RuntimeError as error:
        print(f'rank {dist.get_rank()}: {name}: {error}', flush=True)


def main():
    torch.set_num_threads(1)
    dist.init_process_group('gloo')
    ddp = DistributedDataParallel(build())
    losses, weights = steps(ddp), ddp.module.state_dict()
    for units in UNITS:
        for kind in (fsdp2, fsdp1):
            run = functools.partial(kind, units)
            check(f'{kind.__name__} {units}', run, losses, weights)
    run = functools.partial(fsdp2, 'block', checkpoint=True)
    check('fsdp2 checkpointed block', run, losses, weights)
    for units in ('whole', 'stage'):
        run = functools.partial(fsdp2, units, families=False)
        check(f'fsdp2 {units} without', run, losses, weights)
    run = functools.partial(fsdp2, 'block', reshard_after_forward=False)
    check('fsdp2 block kept whole', run, losses, weights)
    ddp = DistributedDataParallel(build(with_cp=True), static_graph=True)
    static = functools.partial(steps, ddp)
    check(
        'static graph',
        lambda: (static(), ddp.module.state_dict()),
        losses,
        weights,
    )
    ddp = DistributedDataParallel(checkpoint_blocks(build()))
    blocks = functools.partial(steps, ddp)
    check(
        'ddp checkpointed block',
        lambda: (blocks(), without_wrapper(ddp.module.state_dict())),
        losses,
        weights,
    )
    # In bfloat16, with a norm that a CPU has for it: as the network that is
    # one unit, in which a family needs nothing.
    single = functools.partial(build, torch.float32, norm='GN')
    half = torch.bfloat16, torch.float32
    if fully_shard is not None:
        mixed = dict(mp_policy=fsdp.MixedPrecisionPolicy(*half))
        losses, weights = fsdp2('whole', False, model=single(), **mixed)
        run = functools.partial(fsdp2, 'block', model=single(), **mixed)
        check('fsdp2 mixed block', run, losses, weights, rtol=0.02, atol=1e-3)
    mixed = dict(mixed_precision=MixedPrecision(*half))
    losses, weights = fsdp1('whole', model=single(), **mixed)
    run = functools.partial(fsdp1, 'block', model=single(), **mixed)
    check('fsdp1 mixed block', run, losses, weights, rtol=0.02, atol=1e-3)
    if fully_shard is not None:
        reentrant = functools.partial(fsdp2, model=build(with_cp=True))
        refused('fsdp2 reentrant', lambda: reentrant('block'))
        refused('fsdp2 without', lambda: fsdp2('block', families=False))
    refused('fsdp1 without', lambda: fsdp1('block', families=False))
    ddp = DistributedDataParallel(build(with_cp=True))
    refused('ddp reentrant', lambda: steps(ddp, 1))
    shared = dict(type='KernelWarehouse', norm='LN')
    ddp = DistributedDataParallel(build(with_cp=True, conv_cfg=shared))
    refused('warehouse reentrant', lambda: steps(ddp, 1))
    dist.destroy_process_group()


if __name__ == '__main__':
    main()
