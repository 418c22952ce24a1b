"""Members as modules: what they register, and what they follow."""

import pytest
import torch
from pairs import by_hand, family, pair
from torch import nn
from torch.nn.utils import prune

from mmkdna.layers import KernelDNAConv2d, KernelDNALinear


def test_a_child_registers_no_tensor_of_its_parent():
    child, _ = pair()
    assert {id(p) for p in child.parameters()}.isdisjoint(
        id(p) for p in child.parent.parameters()
    )
    assert 'weight' not in child.state_dict()
    assert all(
        k == 'bias' or k.startswith('adapter.') for k in child.state_dict()
    )
    assert list(child.parent.state_dict()) == ['weight', 'bias']
    assert [child.role, child.parent.role] == ['child', 'parent']
    assert child.parent.parent is None


@pytest.mark.parametrize('linear', [True, False])
def test_a_childs_weight_is_refused_with_the_reason(linear):
    child, _ = pair(linear=linear)
    assert not hasattr(child, 'weight')
    with pytest.raises(AttributeError, match='has no weight: its kernel'):
        child.weight  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'wight'"):
        child.wight  # noqa: B018


@pytest.mark.parametrize('cls', [KernelDNAConv2d, KernelDNALinear])
def test_a_member_is_not_built_but_becomes_one(cls):
    with pytest.raises(TypeError, match="conv_cfg=dict\\(type='KernelDNA'"):
        cls(8, 8, 3)


def test_a_child_follows_its_parents_kernel_however_it_changes():
    child, model = pair()
    model.eval()
    x = torch.randn(2, 8, 6, 6)

    def through_data():
        child.parent.weight.data.mul_(2)

    def new_data():
        child.parent.weight.data = torch.randn(8, 8, 3, 3)

    def new_parameter():
        child.parent.weight = nn.Parameter(torch.randn(8, 8, 3, 3))

    def by_numpy():
        child.parent.weight.detach().numpy()[:] *= 3

    def by_the_adapter():
        child.adapter.static.filter.data.add_(1)

    def by_load():
        model.load_state_dict(family().state_dict())

    for change in (
        through_data,
        new_data,
        new_parameter,
        by_numpy,
        by_the_adapter,
        by_load,
    ):
        with torch.no_grad():
            before = child(x)
            change()
            after = child(x)
            assert not torch.allclose(before, after)
            torch.testing.assert_close(after, by_hand(child, x))
            torch.testing.assert_close(
                child.kernel(),
                child.adapter.static(child.parent.weight),
            )


def test_what_a_child_saves_is_its_kernel_less_its_adapter():
    child, _ = pair()
    size = sum(p.numel() for p in child.adapter.parameters())
    assert child.saved == 8 * 8 * 3 * 3 - size
    assert child.parent.saved == 0


def test_a_member_reads_as_its_plain_layer_and_with_its_role():
    child, model = pair()
    plain = repr(nn.Conv2d(8, 8, 3)).removeprefix('Conv2d(')[:-1]
    assert f"({plain}, role='parent')" in repr(child.parent)
    assert f"{plain}, role='child'\n" in repr(child)


def test_a_child_is_trained_if_its_modulation_is():
    for half, trained in (('static', False), ('routing', True)):
        child, _ = pair(bias=False)
        assert child.is_trained
        getattr(child.adapter, half).requires_grad_(False)
        assert child.is_trained is trained


def test_a_child_on_another_device_takes_the_kernel_there():
    child, _ = pair()
    child.to('meta')
    assert child(torch.randn(2, 8, 6, 6, device='meta')).is_meta
    assert not child.parent.weight.is_meta


@pytest.mark.parametrize('linear', [True, False])
def test_reset_members_start_as_plain_layers_and_open_gates(linear):
    child, _ = pair(linear=linear)
    parent, plain = (
        child.parent,
        nn.Linear(8, 8) if linear else nn.Conv2d(8, 8, 3),
    )
    torch.manual_seed(1)
    parent.reset_parameters()
    torch.manual_seed(1)
    plain.reset_parameters()
    assert parent.weight.equal(plain.weight)
    assert parent.bias.equal(plain.bias)
    child.bias.data.fill_(9)
    child.reset_parameters()
    assert child.kernel().equal(parent.weight)
    assert child.adapter.routing.is_open()
    # That of the plain layer: 1 / sqrt(C_in * kh * kw).
    bound = plain.weight[0].numel() ** -0.5
    assert 0.5 * bound < child.bias.abs().max() <= bound
    assert child.bias.min() < 0 < child.bias.max()
    child, _ = pair(linear=linear, bias=False)
    child.reset_parameters()
    assert child.bias is None


def test_a_hook_that_makes_no_weight_is_not_called_for_a_childs_kernel():
    child, _ = pair()
    parent, called = child.parent, []
    parent.register_forward_pre_hook(lambda *args: called.append(1))
    prune.random_unstructured(parent, 'weight', 0.5)
    mask = parent.weight_mask.bool()
    parent.weight_orig.data.add_(1)
    kernel = child.adapter.static(parent.weight_orig * mask)
    torch.testing.assert_close(child.kernel(), kernel)
    assert called == []


def test_moving_a_model_moves_its_families():
    child, model = pair(padding=1)
    x = torch.randn(2, 8, 4, 4)
    expected = by_hand(child, x)
    assert model.double()[0] is child
    torch.testing.assert_close(child(x.double()).float(), expected)
    assert child.kernel().dtype == torch.double
    model.bfloat16()
    assert child(x.bfloat16()).dtype == torch.bfloat16
