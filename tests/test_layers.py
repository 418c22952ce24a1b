"""The conv and its adapter against the formulas of the paper."""

import copy
import math

import numpy as np
import pytest
import torch
from conftest import perturb_adapters
from mmcv.cnn import ConvModule, build_conv_layer
from mmengine.model import BaseModule
from torch import nn

from mmkdna.layers import Adapter, KernelDNAConv2d, KernelDNALinear, Policy
from mmkdna.layers.adapter import mean_over, scale


def make_pair(in_channels=8, out_channels=8, kernel_size=3, **kwargs):
    """A parent and its child, adapter away from its start."""
    arguments = {
        k: kwargs.pop(k) for k in ('norm', 'gate', 'reduction') if k in kwargs
    }
    policy = Policy(min_channels=1, **{'reduction': 2, **arguments})
    parent, child = (
        KernelDNAConv2d(
            in_channels, out_channels, kernel_size, policy=policy, **kwargs
        )
        for _ in range(2)
    )
    adapter = Adapter(
        in_channels,
        child.kernel_shape,
        policy.reduction,
        policy.norm,
        policy.gate,
    )
    parent.become_parent()
    child.become_child(parent, adapter)
    perturb_adapters(child, 0.5)
    return parent, child


def gate_and_kernel(child, mean):
    """In numpy, from DESIGN's formulas; mean is the pooled input (N, C)."""
    state = {k: v.detach().numpy() for k, v in child.state_dict().items()}
    policy = child.policy

    z = mean @ state['adapter.routing.squeeze'].T
    if policy.norm == 'LN':
        z = (z - z.mean(1, keepdims=True)) / np.sqrt(
            z.var(1, keepdims=True) + 1e-5
        )
    elif policy.norm == 'BN':  # in eval
        z = (z - state['adapter.routing.norm.running_mean']) / np.sqrt(
            state['adapter.routing.norm.running_var'] + 1e-5
        )
    if policy.norm is not None:
        z = (
            z * state['adapter.routing.norm.weight']
            + state['adapter.routing.norm.bias']
        )
    z = np.maximum(z, 0) @ state['adapter.routing.excite'].T
    gate = 1 / (1 + np.exp(-(z + state['adapter.routing.excite_bias'])))
    if policy.gate == 'identity':
        gate = 2 * gate

    kernel = child.parent.weight.detach().numpy()
    kernel = kernel * (1 + state['adapter.static.filter'])
    if 'adapter.static.spatial' in state:
        kernel = kernel * (1 + state['adapter.static.spatial'])
    return gate, kernel


def linear_by_the_formulas(child, x):
    """The output of a linear child for (N, H, W, C_in), in numpy."""
    x = x.detach().numpy()
    gate, kernel = gate_and_kernel(child, x.mean((1, 2)))
    out = (x * gate[:, None, None]) @ kernel.T
    return out if child.bias is None else out + child.bias.detach().numpy()


def by_the_formulas(child, x):
    """A child's output in numpy, from DESIGN's formulas and nothing else."""
    x = x.detach().numpy()
    gate, kernel = gate_and_kernel(child, x.mean((2, 3)))

    x = x * gate[:, :, None, None]
    ph, pw = child.padding
    x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    n, _, height, width = x.shape
    (kh, kw), (sh, sw), (dh, dw) = (
        child.kernel_size,
        child.stride,
        child.dilation,
    )
    out_h = (height - dh * (kh - 1) - 1) // sh + 1
    out_w = (width - dw * (kw - 1) - 1) // sw + 1
    out = np.zeros((n, child.out_channels, out_h, out_w))
    per_group = child.in_channels // child.groups
    filters = child.out_channels // child.groups
    for o in range(child.out_channels):
        first = o // filters * per_group
        for i in range(out_h):
            for j in range(out_w):
                window = x[
                    :,
                    first : first + per_group,
                    i * sh : i * sh + dh * kh : dh,
                    j * sw : j * sw + dw * kw : dw,
                ]
                out[:, o, i, j] = (window * kernel[o]).sum((1, 2, 3))
    if child.bias is not None:
        out += child.bias.detach().numpy()[:, None, None]
    return out


@pytest.mark.parametrize(
    'kwargs',
    [
        dict(padding=1),
        dict(padding=1, norm='BN', gate='sigmoid'),
        dict(norm=None, reduction=4, bias=False),
        dict(kernel_size=1),
        dict(kernel_size=(1, 3), padding=(0, 1), out_channels=12),
        dict(padding=2, dilation=2, groups=4),
        dict(padding=1, stride=2),
    ],
    ids=str,
)
def test_child_computes_the_formulas(kwargs):
    _, child = make_pair(**kwargs)
    child.double().eval()
    child.parent.double()
    x = torch.randn(3, 8, 6, 7, dtype=torch.float64)
    ours = child(x).detach().numpy()
    np.testing.assert_allclose(ours, by_the_formulas(child, x), rtol=1e-6)


@pytest.mark.parametrize('norm', ['LN', 'BN', None])
@pytest.mark.parametrize('gate', ['identity', 'sigmoid'])
def test_gradients_of_input_parent_kernel_and_adapter(norm, gate):
    parent, child = make_pair(6, 4, padding=1, norm=norm, gate=gate)
    parent.double()
    child.double().eval()
    x = torch.randn(2, 6, 2, 3, dtype=torch.float64, requires_grad=True)
    inputs = [x, parent.weight, *child.parameters()]
    assert len(inputs) == 8 + 2 * (norm is not None)
    assert torch.autograd.gradcheck(lambda *_: child(x), inputs)


def test_child_at_its_start_computes_what_its_parent_does():
    parent, child = make_pair(bias=False, padding=1)
    child.init_weights()
    x = torch.randn(2, 8, 5, 5)
    assert torch.equal(child(x), parent(x))


@pytest.mark.parametrize(
    'kwargs',
    [
        dict(padding=1),
        dict(padding='same'),
        dict(padding=1, padding_mode='circular'),
        dict(padding=(2, 1), padding_mode='reflect', stride=(2, 1)),
        dict(groups=2, dilation=(1, 2), bias=False),
    ],
    ids=str,
)
def test_free_conv_is_an_ordinary_one(kwargs):
    plain = nn.Conv2d(8, 8, 3, **kwargs)
    ours = KernelDNAConv2d(8, 8, 3, **kwargs)
    ours.load_state_dict(plain.state_dict())
    x = torch.randn(2, 8, 7, 7)
    torch.testing.assert_close(ours(x), plain(x), rtol=0, atol=0)


def test_kernel_starts_kaiming_normal_fan_out():
    conv = KernelDNAConv2d(128, 256, 3, bias=True)
    assert conv.weight.std().item() == pytest.approx(
        math.sqrt(2 / (256 * 9)), rel=0.01
    )
    assert not conv.bias.any()


def test_init_cfg_of_a_model_leaves_the_gate_at_its_start():
    """As MobileNetV3 has one for its Linear layers."""
    parent, child = make_pair()
    child.init_weights()
    init_cfg = dict(type='Normal', layer=['Linear', 'Conv2d'], std=1.0)
    net = BaseModule(init_cfg=init_cfg)
    net.convs = nn.ModuleList([parent, child])
    net.init_weights()
    gate = child.adapter.routing(torch.randn(2, 8))
    assert torch.equal(gate, torch.ones(2, 8))


def test_sigmoid_gate_starts_away_from_zero_weights():
    _, child = make_pair(gate='sigmoid')
    child.init_weights()
    assert child.adapter.routing.excite.abs().min() > 0


def test_child_registers_no_tensor_of_its_parent():
    parent, child = make_pair()
    assert {id(p) for p in child.parameters()}.isdisjoint(
        id(p) for p in parent.parameters()
    )
    assert 'weight' not in child.state_dict()
    assert all(
        k == 'bias' or k.startswith('adapter.') for k in child.state_dict()
    )
    assert list(parent.state_dict()) == ['weight', 'bias']


def test_child_follows_its_parents_kernel():
    parent, child = make_pair(bias=False)
    x = torch.randn(1, 8, 4, 4)
    before = child(x)
    with torch.no_grad():
        parent.weight.mul_(2)
    torch.testing.assert_close(child(x), 2 * before)
    copied = copy.deepcopy(nn.ModuleList([parent, child]))
    with torch.no_grad():
        copied[0].weight.zero_()
    assert not copied[1](x).any()
    assert child(x).any()


@pytest.mark.parametrize(
    ('conv', 'why'),
    [
        (dict(stride=2), 'strided'),
        (dict(kernel_size=1), 'pointwise'),
        (dict(out_channels=8), 'narrow'),
        (dict(groups=16), 'depthwise'),
    ],
)
def test_conv_that_is_never_shared_is_an_ordinary_conv2d(conv, why):
    arguments = dict(in_channels=16, out_channels=16, kernel_size=3)
    cfg = dict(type='KernelDNA', min_channels=16)
    built = build_conv_layer(cfg, **{**arguments, **conv})
    assert type(built) is nn.Conv2d, why
    assert type(build_conv_layer(cfg, **arguments)) is KernelDNAConv2d


def test_kernel_sizes_let_pointwise_convs_in():
    cfg = dict(type='KernelDNA', min_channels=16, kernel_sizes=[1])
    assert type(build_conv_layer(cfg, 16, 16, 1)) is KernelDNAConv2d
    assert type(build_conv_layer(cfg, 16, 16, 3)) is nn.Conv2d


def test_conv_module_takes_it_as_any_conv():
    module = ConvModule(
        16,
        16,
        3,
        padding=1,
        conv_cfg=dict(type='KernelDNA', min_channels=1),
        norm_cfg=dict(type='BN'),
    )
    assert module.conv.bias is None
    assert not module.transposed
    assert module(torch.randn(2, 16, 4, 4)).shape == (2, 16, 4, 4)


@pytest.mark.parametrize(
    ('wrong', 'named'),
    [
        (dict(in_channels=0), 'in_channels=0'),
        (dict(out_channels=-4), 'out_channels=-4'),
        (dict(groups=3), 'groups=3'),
        (dict(groups=0), 'groups=0'),
        (dict(out_channels=18, groups=4), 'divisor of out_channels=18'),
        (dict(kernel_size=0), 'kernel_size=0'),
        (dict(kernel_size=(3, 3, 3)), 'a 2-d convolution'),
        (dict(kernel_size=(3, 3, 3)), '16 -> 16'),
        (dict(stride=0), 'stride=0'),
        (dict(padding=-1), 'padding=-1'),
        (dict(padding='full'), "padding='full'"),
        (dict(dilation=(1, 0)), r'dilation=\(1, 0\)'),
        (dict(output_padding=1), 'output_padding=1'),
        (dict(transposed=True), 'transposed=True'),
    ],
)
def test_convolution_that_cannot_be_is_refused_when_built(wrong, named):
    arguments = dict(in_channels=16, out_channels=16, kernel_size=3)
    with pytest.raises(ValueError, match=named):
        build_conv_layer(
            dict(type='KernelDNA', min_channels=1), **{**arguments, **wrong}
        )


def make_linear_pair(**kwargs):
    policy = Policy(min_channels=1, reduction=2, **kwargs)
    parent, child = (KernelDNALinear(8, 12, policy=policy) for _ in range(2))
    adapter = Adapter(8, child.kernel_shape, 2, policy.norm, policy.gate)
    parent.become_parent()
    child.become_child(parent, adapter)
    return parent, child


@pytest.mark.parametrize(
    'kwargs', [{}, dict(norm='BN', gate='sigmoid'), dict(norm=None)]
)
def test_linear_child_computes_the_formulas(kwargs):
    _, child = make_linear_pair(**kwargs)
    child.double().eval()
    child.parent.double()
    perturb_adapters(child, 0.5)
    x = torch.randn(2, 5, 4, 8, dtype=torch.float64)
    expected = linear_by_the_formulas(child, x)
    torch.testing.assert_close(child(x), torch.from_numpy(expected))


def test_linear_child_starts_as_a_linear_layer_with_its_parents_kernel():
    parent, child = make_linear_pair()
    x = torch.randn(2, 5, 8)
    expected = nn.functional.linear(x, parent.weight, child.bias)
    assert torch.equal(child(x), expected)
    assert child(x[:, 0]).shape == (2, 12)


def test_linear_pair_survives_a_copy():
    pair = nn.ModuleList(make_linear_pair())
    copied = copy.deepcopy(pair)
    assert copied[1].parent is copied[0]
    assert sorted(copied.state_dict()) == sorted(pair.state_dict())
    assert not any(key == '1.weight' for key in copied.state_dict())


def test_scale_has_the_gradients_of_a_product():
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    factor = torch.randn(2, 1, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(scale, (x, factor))
    assert torch.autograd.gradgradcheck(scale, (x, factor))


def test_mean_in_half_precision_does_not_overflow():
    x = torch.full((1, 2, 300, 300), 10.0, dtype=torch.float16)
    assert torch.equal(mean_over(x, (2, 3)), torch.full((1, 2), 10.0).half())


def test_child_compiles_in_one_graph():
    _, child = make_pair(padding=1)
    explained = torch._dynamo.explain(child)(torch.randn(2, 8, 4, 4))
    assert explained.graph_break_count == 0
