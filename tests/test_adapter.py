"""What an adapter holds, and where it starts."""

import pytest
import torch
from mmengine.runner.checkpoint import load_state_dict
from pairs import family, pair
from torch import nn

from mmkdna.layers import Adapter, DynamicRouting, StaticModulation
from mmkdna.layers.adapter import adapter_size


@pytest.mark.parametrize('gate', ['identity', 'sigmoid'])
@pytest.mark.parametrize('norm', ['LN', 'BN', None])
@pytest.mark.parametrize('reduction', [4, 64])
def test_routing_starts_as_the_settings_say(gate, norm, reduction):
    routing = DynamicRouting(64, reduction, norm, gate)
    for parameter in routing.parameters():
        nn.init.constant_(parameter, 7)
    routing.reset_parameters()
    if norm is not None:
        assert routing.norm.weight.eq(1).all()
        assert routing.norm.bias.eq(0).all()
    pooled = torch.randn(4, 64)
    if gate == 'identity':
        assert routing(pooled).eq(1).all()
        assert routing.is_open()
        nn.init.constant_(routing.bias[3:4], 1)
        assert not routing.is_open()
        return
    assert not routing.is_open()
    # As nn.Linear, of 64 and of 16 inputs or one.
    for tensor, fan_in in (
        (routing.squeeze, 64),
        (routing.excite, 64 // reduction),
        (routing.bias, 64 // reduction),
    ):
        bound = fan_in**-0.5
        assert 0.8 * bound < tensor.max() <= bound
        assert -bound <= tensor.min() < -0.8 * bound


@pytest.mark.parametrize('shape', [(6, 4, 3, 3), (6, 8, 1, 1), (6, 8)])
@pytest.mark.parametrize('norm', ['LN', 'BN', None])
def test_the_size_of_an_adapter_is_known_without_one(shape, norm):
    adapter = Adapter(8, shape, 2, norm, 'identity')
    size = sum(p.numel() for p in adapter.parameters())
    assert adapter_size(8, shape, 2, norm, 'identity') == size


@pytest.mark.parametrize(
    ('kernel', 'filter', 'spatial'),
    [
        ((4, 8, 3, 3), (4, 1, 1, 1), (1, 1, 3, 3)),
        ((4, 8, 1, 2), (4, 1, 1, 1), (1, 1, 1, 2)),
        ((4, 8, 1, 1), (4, 1, 1, 1), None),
        ((4, 8), (4, 1), None),
    ],
)
def test_static_modulation_has_a_number_per_filter_and_per_position(
    kernel, filter, spatial
):
    """A pointwise kernel has no spatial half."""
    state = StaticModulation(kernel).state_dict()
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    assert shapes['filter'] == filter
    assert shapes.get('spatial') == spatial


def by_torch(model, state):
    model.load_state_dict(state)


def by_mmengine(model, state):
    load_state_dict(model, state, strict=True)


@pytest.mark.parametrize('load', [by_torch, by_mmengine])
@pytest.mark.parametrize('whole', [True, False])
def test_files_from_before_the_bias_of_the_gate_had_its_name_load(load, whole):
    child, model = pair(padding=1)
    saved, loaded = (model, family(padding=1)) if whole else (child, pair()[0])
    state = saved.state_dict()
    old = {
        key.replace('routing.bias', 'routing.excite_bias'): value
        for key, value in state.items()
    }
    assert set(old) != set(state)
    load(loaded, old)
    assert 'excite_bias' in ' '.join(old)
    for key, value in loaded.state_dict().items():
        assert value.equal(state[key])
