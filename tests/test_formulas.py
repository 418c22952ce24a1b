"""A child's output against the formulas of the paper."""

import numpy as np
import pytest
import torch
from helpers import by_the_formulas, linear_by_the_formulas
from pairs import by_hand, family, gradients, pair
from torch import nn

X = torch.randn(3, 8, 6, 6)


@pytest.mark.parametrize(
    'kwargs',
    [
        dict(padding=1),
        dict(padding=1, norm='BN', gate='sigmoid'),
        dict(norm=None, reduction=4, bias=False),
        dict(size=1),
        dict(size=(1, 3), padding=(0, 1), out_channels=12),
        dict(padding=2, dilation=2, groups=4),
        dict(padding=1, groups=8, parent='first'),
        dict(padding=1, stride=2),
    ],
    ids=str,
)
@pytest.mark.parametrize('grad', [False, True])
def test_a_child_computes_the_formulas(kwargs, grad):
    child, model = pair(**kwargs)
    model.double().eval()
    x = torch.randn(3, 8, 6, 7, dtype=torch.float64)
    with torch.set_grad_enabled(grad):
        ours = child(x).detach().numpy()
    np.testing.assert_allclose(ours, by_the_formulas(child, x), rtol=1e-6)


@pytest.mark.parametrize(
    'kwargs', [{}, dict(norm='BN', gate='sigmoid'), dict(norm=None)], ids=str
)
def test_a_linear_child_computes_the_formulas(kwargs):
    child, model = pair(out_channels=12, linear=True, **kwargs)
    model.double().eval()
    x = torch.randn(2, 5, 4, 8, dtype=torch.float64)
    expected = torch.from_numpy(linear_by_the_formulas(child, x))
    torch.testing.assert_close(child(x), expected)


CHILDREN = [
    *(
        dict(padding=1, norm=norm, gate=gate)
        for norm in ('LN', 'BN', None)
        for gate in ('identity', 'sigmoid')
    ),
    dict(padding=1, padding_mode='circular'),
    dict(padding=(2, 1), padding_mode='reflect', stride=(2, 1)),
    dict(padding='same', dilation=(1, 2)),
    dict(padding='valid', out_channels=12),
    dict(groups=2, dilation=(1, 2), bias=False),
    dict(groups=8, padding=1, parent='first'),
    dict(size=1, out_channels=6),
    dict(size=(1, 3), padding=(0, 1)),
    dict(linear=True, out_channels=6),
    dict(linear=True, bias=False, norm='BN', gate='sigmoid'),
]


@pytest.mark.parametrize('kwargs', CHILDREN, ids=str)
@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('autocast', [False, True])
def test_output_and_gradients_are_those_by_hand(kwargs, training, autocast):
    child, model = pair(**kwargs)
    model.train(training)
    shape = (3, 2, 5, 8) if 'linear' in kwargs else (3, 8, 6, 5)
    x = torch.randn(shape, requires_grad=True)
    inputs = [x, child.parent.weight, *child.parameters()]
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        expected = by_hand(child, x)
        output = child(x)
    if not autocast:
        torch.testing.assert_close(output, expected)
    assert output.dtype == expected.dtype
    for ours, other in zip(
        (output, *gradients(output, inputs)),
        (expected, *gradients(expected, inputs)),
        strict=True,
    ):
        error = (ours - other).norm() / (other.norm() + 1e-3)
        assert error < (2e-2 if autocast else 1e-5)


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('grad', [True, False])
def test_memory_format_is_kept(training, grad):
    child, model = pair(padding=1)
    model.to(memory_format=torch.channels_last).train(training)
    plain = torch.randn(2, 8, 6, 5)
    x = plain.contiguous(memory_format=torch.channels_last).requires_grad_()
    with torch.set_grad_enabled(grad):
        output = child(x)
    assert output.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(output, by_hand(child, plain))
    if grad:
        output.square().sum().backward()
        assert x.grad.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize('norm', ['LN', 'BN', None])
@pytest.mark.parametrize('grad', [True, False])
@pytest.mark.parametrize('linear', [True, False])
def test_one_image_without_a_batch_is_a_batch_of_one(norm, grad, linear):
    kwargs = dict(linear=True) if linear else dict(padding=1)
    child, model = pair(norm=norm, **kwargs)
    model.train(norm != 'BN')
    x = torch.randn(8) if linear else torch.randn(8, 5, 4)
    with torch.set_grad_enabled(grad):
        output = child(x)
    assert output.shape == x.shape
    torch.testing.assert_close(output, by_hand(child, x[None])[0])


def test_a_linear_child_gates_over_all_axes_between():
    child, _ = pair(linear=True)
    x = torch.randn(2, 3, 5, 8)
    torch.testing.assert_close(child(x), by_hand(child, x))
    flat = child(x.flatten(1, 2))
    torch.testing.assert_close(child(x).flatten(1, 2), flat)
    assert child(x[:, 0, 0]).shape == (2, 8)


@pytest.mark.parametrize('linear', [True, False])
def test_a_child_at_its_start_computes_what_its_parent_does(linear):
    kwargs = dict(linear=True) if linear else dict(padding=1)
    child, _ = pair(bias=False, **kwargs)
    child.reset_parameters()
    x = torch.randn(2, 8, 8)[..., None].expand(-1, -1, -1, 8)
    assert torch.equal(child(x), child.parent(x))
    assert child.adapter.routing.is_open()


def test_a_parent_is_an_ordinary_convolution():
    child, _ = pair(padding=(2, 1), padding_mode='reflect', stride=(2, 1))
    plain = nn.Conv2d(
        8, 8, 3, padding=(2, 1), padding_mode='reflect', stride=(2, 1)
    )
    plain.load_state_dict(child.parent.state_dict())
    x = torch.randn(2, 8, 7, 7)
    assert torch.equal(child.parent(x), plain(x))


def test_mean_in_half_precision_does_not_overflow():
    child, model = pair(padding=1, norm=None)
    model.half().eval()
    x = torch.full((1, 8, 300, 300), 10.0, dtype=torch.float16)
    assert child(x).isfinite().all()


@pytest.mark.parametrize('shape', [(0, 8), (0, 3, 8), (0, 2, 3, 8)])
@pytest.mark.parametrize('training', [True, False])
def test_a_linear_member_takes_no_image_at_all(shape, training):
    """As a box head does where no proposal is left."""
    model = family(linear=True).train(training)
    assert model(torch.randn(shape)).shape == shape
    model(torch.randn(shape)).sum().backward()


def test_padding_moves_an_image_and_its_batch_does_not():
    """The gate pools the padding of a batch, as the documentation says."""
    model = family(padding=1).eval()
    alone = model(X[:1])
    torch.testing.assert_close(model(X)[:1], alone)
    padded = nn.functional.pad(X[:1], (0, 6, 0, 6))
    inside = (slice(None), slice(None), slice(4), slice(4))
    assert not torch.allclose(model(padded)[inside], alone[inside])
    for layer in model:
        if layer.role == 'child':
            # It is the same for every input then.
            layer.adapter.routing.excite.data.zero_()
    torch.testing.assert_close(
        model(padded)[inside], model(X[:1])[inside], rtol=1e-5, atol=1e-6
    )
