"""The other dynamic convolutions: their sums by hand, and their sizes."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from mmcv.cnn import build_conv_layer
from mmengine.registry import MODELS
from torch import nn
from torch._subclasses.fake_tensor import UnsupportedOperatorException
from torch.export import Dim, export

import mmkdna
from mmkdna.peers import (
    TYPES,
    CondConv2d,
    DyConv2d,
    FDConv2d,
    KernelWarehouseConv2d,
    ODConv2d,
)

LAYERS = {
    'CondConv': CondConv2d,
    'DyConv': DyConv2d,
    'ODConv': ODConv2d,
    'KernelWarehouse': KernelWarehouseConv2d,
    'FDConv': FDConv2d,
}
NORMED = ('ODConv', 'KernelWarehouse', 'FDConv')
GEOMETRIES = [
    dict(kernel_size=3, padding=1),
    dict(kernel_size=3, stride=2, padding=2, dilation=2, groups=2),
    dict(kernel_size=1, bias=True),
    dict(kernel_size=(1, 3), padding=(0, 1), padding_mode='reflect'),
]


def net(kind, convs=1, channels=8, **geometry):
    """Convs in a row, complete, with every parameter away from its start."""
    layers = (
        build_conv_layer(dict(type=kind), channels, channels, **geometry)
        for _ in range(convs)
    )
    model = nn.Sequential(*layers)
    mmkdna.form_families(model)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    return model.double()


def squeezed(layer, x):
    """Mean over the pixels, linear, norm of one image or more, ReLU."""
    squeeze = layer.squeeze
    z = x.mean((2, 3)) @ squeeze.linear.weight.T
    norm = squeeze.norm
    if isinstance(norm, nn.BatchNorm1d):
        z = (z - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
        z = z * norm.weight + norm.bias
    return z.clamp(min=0)


def affine(linear, z):
    return z @ linear.weight.T + linear.bias


def condconv(layer, x, i):
    mix = 1 / (1 + (-affine(layer.routing, x.mean((2, 3)))[i]).exp())
    return sum(a * w for a, w in zip(mix, layer.weight, strict=True)), mix


def dyconv(layer, x, i):
    z = affine(layer.excite, squeezed(layer, x))[i] / layer.temperature
    mix = z.exp() / z.exp().sum()
    return sum(a * w for a, w in zip(mix, layer.weight, strict=True)), mix


def odconv(layer, x, i):
    z = squeezed(layer, x)

    def logits(linear):
        return affine(linear, z)[i] / layer.temperature

    kernel = layer.weight[0]
    if layer.expert is not None:
        mix = logits(layer.expert).softmax(0)
        kernel = torch.einsum('e,eoihw->oihw', mix, layer.weight)
    if layer.spatial is not None:
        size = kernel.shape[2:]
        kernel = kernel * logits(layer.spatial).sigmoid().view(size)
    if layer.filter is not None:
        f = logits(layer.filter).sigmoid()
        kernel = kernel * f[:, None, None, None]
    return by_input_channel(layer, kernel, logits(layer.channel).sigmoid())


def by_input_channel(layer, kernel, factors):
    """Scale a kernel by its input's channels, group by group."""
    groups = kernel.unflatten(0, (layer.groups, -1))
    factors = factors.view(layer.groups, 1, -1, 1, 1)
    return (groups * factors).flatten(0, 1), None


def kernel_warehouse(layer, x, i):
    cells = layer.owner.cells
    z = affine(layer.excite, squeezed(layer, x))[i]
    rows = z.view(-1, len(cells) + 1)
    kernel = torch.zeros(layer.kernel_shape).double()
    cout, cin, high, wide = layer.kernel_shape
    co, ci = cells.shape[1:]
    row = 0
    for place in range(high * wide):
        for o in range(0, cout, co):
            for j in range(0, cin, ci):
                share = rows[row] / (rows[row].abs().sum() + 1e-3)
                start = torch.zeros(len(cells) + 1).double()
                start[layer.assignment[row]] = 1
                t = layer.temperature
                share = (1 - t) * share + t * start
                cell = sum(share[n] * cells[n] for n in range(len(cells)))
                y, w = divmod(place, wide)
                kernel[o : o + co, j : j + ci, y, w] = cell
                row += 1
    return kernel, None


def fdconv(layer, x, i):
    z = squeezed(layer, x)
    share = 2 * affine(layer.groups_of_frequencies, z)[i].sigmoid()
    rows, columns = layer.matrix_shape
    coefficients = torch.view_as_complex(layer.spectrum)
    # One inverse transform a group, as the paper writes it.
    matrix = sum(
        share[g]
        * torch.fft.irfft2(
            coefficients * (layer.group == g), s=(rows, columns)
        )
        for g in range(len(share))
    )
    cout, cin, high, wide = layer.kernel_shape
    kernel = torch.zeros(layer.kernel_shape).double()
    for y in range(high):
        for w in range(wide):
            kernel[:, :, y, w] = matrix[
                y * cout : (y + 1) * cout, w * cin : (w + 1) * cin
            ]
    channels = layer.in_channels
    means = F.layer_norm(
        x.mean((2, 3)),
        [channels],
        layer.local_norm.weight,
        layer.local_norm.bias,
    )
    local = F.conv1d(
        means[i][None, None],
        layer.local.weight,
        padding=layer.local.padding[0],
    )[0]
    local = 2 * local.sigmoid()
    per_group = cout // layer.groups
    for o in range(cout):
        for c in range(cin):
            channel = o // per_group * cin + c
            kernel[o, c] *= local.view(per_group, high, wide, channels)[
                o % per_group, :, :, channel
            ]
    if layer.spatial is not None:
        kernel *= 2 * affine(layer.spatial, z)[i].sigmoid().view(high, wide)
    f = 2 * affine(layer.filter, z)[i].sigmoid()
    kernel = kernel * f[:, None, None, None]
    channel = 2 * affine(layer.channel, z)[i].sigmoid()
    return by_input_channel(layer, kernel, channel)


def in_bands(layer, x):
    """The sum over the bands, each cut out of the full transform."""
    maps = 2 * layer.bands(x).sigmoid()
    height, width = x.shape[2:]
    frequency = torch.maximum(
        torch.fft.fftfreq(height).abs()[:, None],
        torch.fft.fftfreq(width).abs()[None],
    )
    edges = [0, 1 / 16, 1 / 8, 1 / 4, 1]
    total = torch.zeros_like(x)
    for band in range(4):
        inside = (frequency >= edges[band]) & (frequency < edges[band + 1])
        part = torch.fft.ifft2(torch.fft.fft2(x) * inside).real
        total = total + part * maps[:, band, None]
    return total


def test_every_type_is_tested_here():
    assert TYPES == LAYERS


BY_HAND = {
    'CondConv': condconv,
    'DyConv': dyconv,
    'ODConv': odconv,
    'KernelWarehouse': kernel_warehouse,
    'FDConv': fdconv,
}


@pytest.mark.parametrize('geometry', GEOMETRIES, ids=str)
@pytest.mark.parametrize('kind', LAYERS)
@torch.no_grad()
def test_the_forward_is_that_of_the_paper(kind, geometry):
    model = net(kind, 2, **geometry).eval()
    layer = model[1]
    assert type(layer) is LAYERS[kind]
    if layer.temperatures is not None:
        layer.temperature.fill_(0.7)
    x = torch.randn(3, 8, 9, 10).double()
    y = layer(x)
    for i in range(3):
        kernel, mix = BY_HAND[kind](layer, x, i)
        bias = layer.bias
        if mix is not None and bias is not None:
            bias = mix @ bias
        inputs = x if kind != 'FDConv' else in_bands(layer, x)
        plain = nn.Conv2d(8, 8, **{**geometry, 'bias': False}).double()
        plain.weight.copy_(kernel)
        expected = plain(inputs[i : i + 1])
        if bias is not None:
            expected = expected + bias[:, None, None]
        torch.testing.assert_close(y[i : i + 1], expected.to(y))


def test_odconv_mixes_its_experts_and_leaves_depthwise_filters():
    conv = (
        build_conv_layer(
            dict(type='ODConv', experts=3), 8, 8, 3, groups=8, padding=1
        )
        .double()
        .eval()
    )
    assert conv.filter is None
    x = torch.randn(2, 8, 6, 6).double()
    kernel, _ = odconv(conv, x, 1)
    torch.testing.assert_close(
        conv(x)[1:], F.conv2d(x[1:], kernel, padding=1, groups=8)
    )


PUBLISHED = [
    # ODConv, arXiv 2209.07947, table 1; it measured DyConv as well.
    (18, dict(type='ODConv'), 11.94),
    (18, dict(type='ODConv', experts=4), 44.90),
    (50, dict(type='ODConv'), 28.64),
    (50, dict(type='ODConv', experts=4), 90.67),
    (18, dict(type='DyConv'), 45.47),
    # KernelWarehouse, arXiv 2406.07879, tables 1 and 2.
    (18, dict(type='KernelWarehouse'), 11.93),
    (50, dict(type='KernelWarehouse'), 28.05),
    (18, dict(type='KernelWarehouse', budget=4), 45.86),
    (18, None, 11.69),
    (50, None, 25.56),
]


@pytest.mark.parametrize(('depth', 'conv_cfg', 'millions'), PUBLISHED)
def test_parameters_are_as_many_as_published(depth, conv_cfg, millions):
    model = MODELS.build(
        dict(type='mmpretrain.ResNet', depth=depth, conv_cfg=conv_cfg)
    )
    features = 512 if depth == 18 else 2048
    head = nn.Linear(features, 1000)
    count = sum(p.numel() for part in (model, head) for p in part.parameters())
    assert round(count / 1e6, 2) == millions


@pytest.mark.parametrize('kind', LAYERS)
def test_it_trains_with_one_image_a_step(kind):
    norm = dict(norm='LN') if kind in NORMED else {}
    model = nn.Sequential(
        build_conv_layer(dict(type=kind, **norm), 8, 8, 3, padding=1),
        build_conv_layer(dict(type=kind, **norm), 8, 8, 3, padding=1),
    )
    mmkdna.form_families(model)
    model(torch.randn(1, 8, 8, 8)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize('kind', NORMED)
def test_batch_norm_over_one_image_says_what_to_do(kind):
    model = nn.Sequential(
        build_conv_layer(dict(type=kind), 8, 8, 3),
        build_conv_layer(dict(type=kind), 8, 8, 3),
    )
    mmkdna.form_families(model)
    with pytest.raises(ValueError, match="norm='LN'"):
        model(torch.randn(1, 8, 8, 8))


@pytest.mark.parametrize('kind', LAYERS)
def test_a_copy_and_a_pickle_compute_the_same_and_stand_alone(kind):
    model = net(kind, 2, kernel_size=3, padding=1).eval()
    x = torch.randn(2, 8, 8, 8).double()
    expected = model(x)
    copies = copy.deepcopy(model), pickle.loads(pickle.dumps(model))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    for other in copies:
        torch.testing.assert_close(other(x), expected)


@pytest.mark.parametrize('kind', LAYERS)
def test_a_state_dict_loads_into_another_of_its_kind(kind):
    model, other = (
        net(kind, 3, kernel_size=3, padding=1).eval() for _ in range(2)
    )
    other.load_state_dict(model.state_dict())
    x = torch.randn(2, 8, 8, 8).double()
    torch.testing.assert_close(other(x), model(x), rtol=0, atol=0)


@pytest.mark.parametrize('kind', LAYERS)
def test_autocast_stays_near_float32(kind):
    torch.manual_seed(0)
    model = nn.Sequential(
        *(
            build_conv_layer(dict(type=kind), 16, 16, 3, padding=1, bias=True)
            for _ in range(2)
        )
    )
    mmkdna.form_families(model)
    model.eval()
    x = torch.randn(2, 16, 12, 12)
    with torch.autocast('cpu', torch.bfloat16):
        half = model(x)
    assert half.dtype == torch.bfloat16
    full = model(x)
    error = (half.float() - full).norm() / full.norm()
    assert error < 0.03
    half.float().sum().backward()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(experts=0), 'experts=0: expected an int of at least 1'),
        (dict(expert=4), 'expert=4: expected one of .*did you mean experts'),
        (dict(reduction='a'), "reduction='a': expected an int"),
        (dict(norm='GN'), "norm='GN': expected one of 'LN', 'BN', None"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match='conv_cfg of ODConv: ' + message):
        build_conv_layer(dict(type='ODConv', **arguments), 8, 8, 3)


class Transform(nn.Module):
    def forward(self, x):
        return torch.fft.irfft2(x)


def exported(model, x):
    shapes = ({0: Dim('batch', min=1, max=64)},)
    return export(model, (x,), dynamic_shapes=shapes, strict=False).module()


@pytest.mark.parametrize('kind', LAYERS)
@torch.no_grad()
def test_an_export_has_any_number_of_images(kind):
    model = net(kind, 2, kernel_size=3, padding=1).eval()
    two, five = (torch.randn(n, 8, 9, 9).double() for n in (2, 5))
    if kind == 'FDConv':
        try:
            exported(Transform(), torch.randn(2, 9, 5, dtype=torch.cdouble))
        except UnsupportedOperatorException as error:
            pytest.skip(f'for any number of images, torch exports no {error}')
    torch.testing.assert_close(exported(model, two)(five), model(five))


@pytest.mark.parametrize('pixels', [(1, 1), (1, 3)], ids=str)
@pytest.mark.parametrize('kind', LAYERS)
def test_gradients_are_those_of_finite_differences(kind, pixels):
    """On one pixel a factor has the shape of what it scales."""
    model = net(kind, 2, kernel_size=3, padding=1).eval()
    names = [name for name, _ in model.named_parameters()]
    parameters = [p.detach().requires_grad_() for p in model.parameters()]
    x = torch.randn(2, 8, *pixels).double().requires_grad_()

    def forward(x, *values):
        given = dict(zip(names, values, strict=True))
        return torch.func.functional_call(model, given, (x,))

    assert torch.autograd.gradcheck(forward, (x, *parameters), fast_mode=True)


@pytest.mark.parametrize('size', [(3, 3, 3), 0, 2.5], ids=str)
def test_a_convolution_that_is_not_2d_is_refused(size):
    with pytest.raises(ValueError, match='kernel_size=.*expected an int of'):
        build_conv_layer(dict(type='DyConv'), 8, 8, size)
