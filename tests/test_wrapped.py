"""Kernels that a wrapper has taken away: offloaded ones."""

import pytest
import torch
from pairs import family, pair
from torch import nn

X = torch.randn(2, 8, 6, 6)


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('linear', [True, False])
def test_an_offloaded_parent_is_refused(training, linear):
    kwargs = dict(linear=True) if linear else dict(padding=1)
    child, model = pair(**kwargs)
    model.train(training)
    child.parent.to('meta')
    x = torch.randn(2, 8) if linear else X
    with pytest.raises(
        RuntimeError, match='is offloaded.*keep a family together'
    ):
        child(x)
    assert model.to('meta')(x.to('meta')).is_meta


def offload(module, recurse):
    """As accelerate: parameters are there while the module computes."""
    kept = {n: p.data for n, p in module.named_parameters(recurse=recurse)}

    def put(device):
        for name, value in kept.items():
            owner, _, last = name.rpartition('.')
            parameter = nn.Parameter(value.to(device))
            setattr(module.get_submodule(owner), last, parameter)

    put('meta')
    module.register_forward_pre_hook(lambda *_: put('cpu'))
    module.register_forward_hook(lambda *_: put('meta'))


@torch.no_grad()
def test_offloading_layer_by_layer_is_refused_with_the_way_out():
    model = family(padding=1).eval()
    for layer in list(model.modules()):
        offload(layer, recurse=False)
    with pytest.raises(RuntimeError, match='preload_module_classes'):
        model(X)


@torch.no_grad()
def test_offloading_a_family_as_one_works():
    model = nn.Sequential(nn.Conv2d(8, 8, 3), family(padding=1)).eval()
    expected = model(X)
    for block in model:
        offload(block, recurse=True)
    assert all(p.is_meta for p in model.parameters())
    assert model(X).equal(expected)
    assert all(p.is_meta for p in model.parameters())
