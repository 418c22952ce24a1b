"""FSDP and DDP over real processes: a family is whole wherever it runs."""

import pytest
from helpers import processes
from torch import nn

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


@pytest.mark.parametrize(
    'number', [2, pytest.param(4, marks=pytest.mark.slow)]
)
def test_sharded_steps_are_those_of_ddp(number):
    out = processes(number, 'sharded_steps.py')
    for rank in range(number):
        for name in AGREE:
            assert f'rank {rank}: {name} agrees' in out
        # What would go wrong says so before the first step, and what to do.
        for name, advice in (
            ('fsdp2 without', 'mmkdna.shard_families(model)'),
            ('fsdp2 reentrant', 'use_reentrant=False'),
            ('fsdp1 without', "auto_wrap_policy=dict(type='whole_families'"),
            ('ddp reentrant', 'static_graph=True'),
            ('warehouse reentrant', 'static_graph=True'),
        ):
            text = out.partition(f'rank {rank}: {name}: ')[2]
            assert advice in text.partition('\n')[0]


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
