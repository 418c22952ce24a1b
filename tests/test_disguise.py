"""Members as plain layers, while a model initialises or is sorted."""

import copy
import pickle

import pytest
import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from mmengine.optim import DefaultOptimWrapperConstructor, build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from pairs import family, pair
from torch import nn

import mmkdna
from mmkdna.layers import KernelDNAConv2d, KernelDNALinear
from mmkdna.openmmlab import as_plain
from mmkdna.openmmlab.disguise import disguising


class Net(BaseModule):
    """Three layers alike under an init_cfg; two are a family."""

    def __init__(self, init_cfg=None, linear=False, kernel_dna=True):
        super().__init__(init_cfg)
        self.layers = nn.ModuleList(
            nn.Linear(16, 16) if linear else nn.Conv2d(16, 16, 3)
            for _ in range(3)
        )
        if kernel_dna:
            kernel_sizes = (1,) if linear else None
            mmkdna.convert(
                self,
                linear,
                min_channels=1,
                kernel_sizes=kernel_sizes,
                reduction=8,
            )


def spread(tensor):
    return tensor.detach().std().item()


@pytest.mark.parametrize('linear', [True, False])
def test_members_answer_as_their_plain_layer_only_while_it_lasts(linear):
    child, model = pair(linear=linear)
    plain = nn.Linear if linear else nn.Conv2d
    cls = KernelDNALinear if linear else KernelDNAConv2d
    keys, classes = list(model.state_dict()), [type(m) for m in model]
    assert classes == [cls, cls]
    assert not isinstance(child, plain)
    with as_plain(model), as_plain(model):
        for member in model:
            assert isinstance(member, plain)
            assert isinstance(member, mmkdna.layers.KernelDNALayer)
            assert type(member).__name__ == cls.__name__
            assert plain in type(member).__bases__
            assert member.weight.shape == member.kernel_shape
        assert child.parent.kernel().equal(child.parent.weight)
        # The weight of a child is to be thrown away.
        assert list(model.state_dict()) == keys
        assert all(p is not child.weight for p in model.parameters())
    assert [type(m) for m in model] == classes
    assert not hasattr(child, 'weight')


def test_an_exception_inside_leaves_members_as_they_were():
    child, model = pair()
    with pytest.raises(KeyError, match='inside'), as_plain(model):
        raise KeyError('inside')
    assert type(child) is KernelDNAConv2d
    assert not hasattr(child, 'weight')
    wrapped = disguising(lambda model: 1 / 0, 0)
    with pytest.raises(ZeroDivisionError):
        wrapped(model)
    assert {type(m) for m in model} == {KernelDNAConv2d}


@pytest.mark.parametrize(
    'duplicate',
    [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))],
)
def test_a_copy_made_inside_is_of_members(duplicate):
    child, model = pair(padding=1)
    with as_plain(model):
        copied = duplicate(model)
    assert {type(m) for m in copied} == {KernelDNAConv2d}
    assert copied[0].parent is copied[1]
    assert not hasattr(copied[0], 'weight')
    x = torch.randn(2, 8, 4, 4)
    assert copied(x).equal(model(x))


def starts(init_cfg, linear=False):
    """The first child, its parent and the layers of a plain net."""
    model, plain = (
        Net(init_cfg, linear, kernel_dna) for kernel_dna in (True, False)
    )
    model.init_weights()
    plain.init_weights()
    child, parent = model.layers[1:]
    assert child.parent is parent
    assert type(model.layers[0]) is type(plain.layers[0])
    return child, parent, plain.layers


NAMES = [
    (name, linear)
    for linear in (False, True)
    for name in (
        ('Linear', 'KernelDNALinear')
        if linear
        else ('Conv2d', 'KernelDNAConv2d')
    )
]


@pytest.mark.parametrize(('name', 'linear'), NAMES)
def test_init_cfg_reaches_members_by_either_name(name, linear):
    init_cfg = dict(type='Constant', layer=name, val=0.25, bias=-3.0)
    child, parent, _ = starts(init_cfg, linear)
    assert parent.weight.eq(0.25).all()
    for layer in (child, parent):
        assert layer.bias.eq(-3).all()
    # Its gate is at its start: an adapter has no part in it.
    assert child.adapter.routing.is_open()
    assert child.kernel().eq(0.25).all()


@pytest.mark.parametrize(
    'init_cfg',
    [
        dict(type='Normal', std=0.5, layer='Conv2d'),
        dict(type='Xavier', layer='Conv2d', distribution='uniform'),
        dict(type='Kaiming', layer='Conv2d'),
        dict(type='TruncNormal', std=0.1, layer=['Conv2d', 'Linear']),
        # These ask for no class.
        dict(
            type='Normal',
            layer=[],
            override=dict(type='Normal', name='layers', std=0.5),
        ),
        dict(
            type='Xavier',
            layer=[],
            override=dict(type='Xavier', name='layers'),
        ),
    ],
    ids=str,
)
def test_a_parent_starts_as_the_plain_layer_in_its_place(init_cfg):
    child, parent, plain = starts(init_cfg)
    kernel = plain[2].weight
    default = spread(nn.Conv2d(16, 16, 3).weight)
    assert abs(spread(kernel) / default - 1) > 0.2
    assert spread(parent.weight) == pytest.approx(spread(kernel), rel=0.1)
    # A normal or a uniform one.
    peak, expected = (w.detach().abs().max() for w in (parent.weight, kernel))
    assert 0.7 < peak / expected < 1.4
    assert parent.bias.equal(plain[2].bias)
    assert child.bias.equal(plain[1].bias)


@pytest.mark.parametrize(
    'init_cfg',
    [
        dict(type='Constant', val=0.5, bias=0.5, layer='LayerNorm'),
        dict(type='Constant', val=0.5, bias=0.5, layer='Linear'),
        dict(
            type='Normal',
            layer=[],
            override=dict(type='Normal', name='layers', std=1.0, bias=-4.6),
        ),
    ],
    ids=str,
)
def test_no_init_cfg_reaches_into_an_adapter(init_cfg):
    model = Net(init_cfg)
    before = copy.deepcopy(model.layers[1].adapter.state_dict())
    model.init_weights()
    after = model.layers[1].adapter.state_dict()
    assert len(after) == 7
    for key, value in after.items():
        assert value.equal(before[key]), key


def test_conv_module_gives_a_childs_bias_its_start():
    conv_cfg = dict(type='KernelDNA', min_channels=1)
    model = nn.Sequential(
        *(ConvModule(16, 16, 3, conv_cfg=conv_cfg) for _ in range(2))
    )
    mmkdna.form_families(model)
    for layer in model:
        nn.init.ones_(layer.conv.bias)
        layer.init_weights()
        assert not layer.conv.bias.any()
    # Kaiming normal of fan_out.
    std = (2 / (16 * 9)) ** 0.5
    assert spread(model[1].conv.weight) == pytest.approx(std, rel=0.1)


def head(conv_cfg):
    init_default_scope('mmdet')
    model = MODELS.build(
        dict(
            type='RetinaHead',
            num_classes=3,
            in_channels=32,
            feat_channels=32,
            conv_cfg=conv_cfg,
            anchor_generator=dict(
                type='AnchorGenerator',
                scales=[4],
                ratios=[1.0],
                strides=[8],
            ),
        )
    )
    model.init_weights()
    return model


def test_a_retina_head_starts_as_its_init_cfg_says():
    ours = head(dict(type='KernelDNA', min_channels=32))
    plain = head(None)
    assert len(mmkdna.list_families(ours)) == 4
    parents = [f.parent for f in mmkdna.list_families(ours)]
    for name, parent in parents:
        assert spread(parent.weight) == pytest.approx(0.01, rel=0.1)
        kernel = plain.get_submodule(name).weight
        assert spread(kernel) == pytest.approx(0.01, rel=0.1)
    level = torch.randn(2, 32, 8, 8)
    logits, _ = ours([level])
    expected, _ = plain([level])
    assert 0.3 < spread(logits[0]) / spread(expected[0]) < 3


def test_a_pretrained_checkpoint_loads_inside(tmp_path):
    plain, ours = Net(kernel_dna=False), Net()
    nn.init.normal_(ours.layers[1].adapter.static.filter)
    nn.init.normal_(ours.layers[1].adapter.routing.excite)
    for model in (plain, ours):
        path = str(tmp_path / 'model.pth')
        torch.save(model.state_dict(), path)
        loaded = Net(dict(type='Pretrained', checkpoint=path))
        loaded.init_weights()
        child, parent = loaded.layers[1:]
        assert parent.weight.equal(model.layers[2].weight)
        assert child.bias.equal(model.layers[1].bias)
        if model is ours:
            for key, value in loaded.state_dict().items():
                assert value.equal(ours.state_dict()[key]), key
        else:
            assert child.kernel().equal(parent.weight)


def test_a_part_of_a_plain_checkpoint_loads_inside(tmp_path):
    plain = Net(kernel_dna=False)
    path = str(tmp_path / 'part.pth')
    state = plain.state_dict()
    torch.save({k: v for k, v in state.items() if 'layers.1' in k}, path)
    loaded = Net(dict(type='Pretrained', checkpoint=path))
    before = loaded.layers[2].weight.clone()
    loaded.init_weights()
    assert loaded.layers[1].bias.equal(plain.layers[1].bias)
    assert loaded.layers[2].weight.equal(before)


def test_an_optimizer_constructor_sees_plain_layers():
    model = family(groups=8)
    seen = []

    class Constructor(DefaultOptimWrapperConstructor):
        def add_params(self, params, module, **kwargs):
            seen.append(isinstance(module, nn.Conv2d))
            super().add_params(params, module, **kwargs)

    optimizer = dict(type='SGD', lr=0.1)
    constructor = Constructor(
        dict(optimizer=optimizer), dict(bias_lr_mult=2.0)
    )
    constructor(model=model)
    assert seen.count(True) == 2
    assert {type(m) for m in model} == {KernelDNAConv2d}


def test_a_function_is_wrapped_once():
    once = disguising(lambda model: None, 0)
    assert disguising(once, 0) is once


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
