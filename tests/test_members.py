"""Members as modules: what they register, copies, files, optimizers."""

import copy
import gc
import io
import pickle
import weakref

import pytest
import torch
from helpers import perturb_adapters
from mmcv.cnn import ConvModule, build_conv_layer
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from mmengine.runner.checkpoint import load_state_dict
from pairs import by_hand, family, pair
from torch import nn
from torch.utils.checkpoint import checkpoint

import mmkdna
from mmkdna.layers import KernelDNAConv2d, KernelDNALinear

LOST = 'has lost its parent'


def resnet(**kwargs):
    model = MODELS.build(
        dict(
            type='mmdet.ResNet',
            depth=18,
            base_channels=16,
            conv_cfg=dict(type='KernelDNA', min_channels=32),
            **kwargs,
        )
    )
    perturb_adapters(model)
    model.eval()
    return model


IMAGES = torch.randn(2, 3, 32, 32)


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


def torch_save(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def by_pickle(model):
    return pickle.loads(pickle.dumps(model))


@pytest.mark.parametrize('duplicate', [copy.deepcopy, by_pickle, torch_save])
def test_a_copy_of_a_model_has_families_of_its_own(duplicate):
    model = resnet()
    copied = duplicate(model)
    names = [str(family) for family in mmkdna.list_families(model)]
    assert len(names) == 3
    assert [str(f) for f in mmkdna.list_families(copied)] == names
    assert list(copied.state_dict()) == list(model.state_dict())
    with torch.no_grad():
        expected = model(IMAGES)[-1]
        assert copied(IMAGES)[-1].equal(expected)
        for parameter in model.parameters():
            parameter.zero_()
        assert copied(IMAGES)[-1].equal(expected)
        for ours in mmkdna.list_families(copied):
            ours.parent.module.weight.zero_()
            for _, child in ours.children:
                assert not child.kernel().any()


@pytest.mark.parametrize('duplicate', [copy.deepcopy, by_pickle, torch_save])
def test_a_block_copied_without_its_parent_says_so(duplicate, build):
    model = build(2)
    block = model.stages[0][0]
    copied = duplicate(block)
    x = torch.randn(2, 16, 4, 4)
    with pytest.raises(RuntimeError, match=LOST):
        copied(x)
    # It can still be shown and moved, and the one left behind computes.
    assert "role='child'" in repr(copied)
    copied.half()
    assert block(x).isfinite().all()
    # Nor does the whole stage need the model.
    assert duplicate(model.stages)[0](x).equal(model(x))


def test_a_child_keeps_no_parent_alive():
    child, model = pair()
    gone = weakref.ref(child.parent)
    del model
    gc.collect()
    assert gone() is None
    with pytest.raises(RuntimeError, match=LOST):
        child(torch.randn(1, 8, 4, 4))


def test_a_parent_goes_on_without_its_children():
    model = family(padding=1, members=3)
    parent = model[2]
    del model
    gc.collect()
    x = torch.randn(1, 8, 4, 4)
    expected = nn.functional.conv2d(x, parent.weight, parent.bias, padding=1)
    assert parent(x).equal(expected)
    assert parent.family.children == []
    assert copy.deepcopy(parent)(x).equal(expected)


@pytest.mark.parametrize('use_reentrant', [True, False])
def test_checkpointing_counts_batch_statistics_once(use_reentrant):
    child, model = pair(padding=1, norm='BN')
    other = copy.deepcopy(model)
    x = torch.randn(3, 8, 5, 5, requires_grad=True)
    for _ in range(2):
        model(x).square().sum().backward()
        checkpoint(
            other, x, use_reentrant=use_reentrant
        ).square().sum().backward()
    assert child.adapter.routing.norm.num_batches_tracked == 2
    for ours, theirs in zip(model.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(theirs, ours)
    for ours, theirs in zip(
        model.parameters(), other.parameters(), strict=True
    ):
        torch.testing.assert_close(theirs.grad, ours.grad)


def decays(model, **paramwise):
    """The weight decay of each parameter, by its name."""
    wrapper = build_optim_wrapper(
        model,
        dict(
            optimizer=dict(type='SGD', lr=0.1, weight_decay=1.0),
            paramwise_cfg=paramwise,
        ),
    )
    names = {id(p): n for n, p in model.named_parameters()}
    # mmengine has a parameter of its own there, too.
    return {
        names[id(p)]: group['weight_decay']
        for group in wrapper.param_groups
        for p in group['params']
        if id(p) in names
    }


def test_bias_decay_mult_reaches_the_bias_of_the_gate_too():
    found = decays(family(norm=None), bias_decay_mult=0.5)
    halved = [name for name, decay in found.items() if decay == 0.5]
    assert halved == ['0.bias', '0.adapter.routing.bias', '1.bias']
    assert found['0.adapter.routing.excite'] == 1


@pytest.mark.parametrize('parent', ['last', 'first'])
def test_dwconv_decay_mult_reaches_depthwise_members(parent):
    model = family(groups=8, bias=False, parent=parent)
    found = decays(model, dwconv_decay_mult=0.5)
    index = 1 if parent == 'last' else 0
    assert found[f'{index}.weight'] == 0.5
    assert set(found.values()) == {0.5, 1}
    # Not an ordinary one.
    found = decays(family(bias=False, parent=parent), dwconv_decay_mult=0.5)
    assert set(found.values()) == {1}


def test_norm_decay_mult_reaches_the_norm_of_the_gate():
    found = decays(family(bias=False), norm_decay_mult=0.5)
    assert found['0.adapter.routing.norm.weight'] == 0.5
    assert found['0.adapter.routing.squeeze'] == 1


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


def test_moving_a_model_moves_its_families():
    child, model = pair(padding=1)
    x = torch.randn(2, 8, 4, 4)
    expected = by_hand(child, x)
    assert model.double()[0] is child
    torch.testing.assert_close(child(x.double()).float(), expected)
    assert child.kernel().dtype == torch.double
    model.bfloat16()
    assert child(x.bfloat16()).dtype == torch.bfloat16


def test_members_stay_the_objects_that_they_were():
    conv_cfg = dict(type='KernelDNA', min_channels=1)
    model = nn.Sequential(
        *(
            ConvModule(8, 8, 3, conv_cfg=conv_cfg, norm_cfg=dict(type='BN'))
            for _ in range(2)
        )
    )
    convs = [m.conv for m in model]
    seen = []
    convs[0].register_forward_hook(lambda *_: seen.append('child'))
    convs[1].note = 'kept'
    assert {type(conv) for conv in convs} == {nn.Conv2d}
    mmkdna.form_families(model)
    assert [m.conv for m in model] == convs
    assert {type(conv) for conv in convs} == {KernelDNAConv2d}
    model(torch.randn(2, 8, 8, 8))
    assert seen == ['child']
    assert convs[1].note == 'kept'
    assert not model[0].conv.transposed


@pytest.mark.parametrize(
    ('conv', 'why'),
    [
        (dict(stride=2), 'strided'),
        (dict(kernel_size=1), 'pointwise'),
        (dict(out_channels=8), 'narrow'),
        (dict(groups=16), 'depthwise'),
    ],
)
def test_a_conv_that_is_in_no_family_stays_a_conv2d(conv, why):
    arguments = dict(in_channels=16, out_channels=16, kernel_size=3)
    cfg = dict(type='KernelDNA', min_channels=16)
    for change, cls in ((conv, nn.Conv2d), ({}, KernelDNAConv2d)):
        model = nn.Sequential(
            *(
                build_conv_layer(cfg, **{**arguments, **change})
                for _ in range(2)
            )
        )
        mmkdna.form_families(model)
        assert {type(layer) for layer in model} == {cls}, why
