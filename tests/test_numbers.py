"""Empty, tiny, wide, narrow and half: a member is as the plain layer there."""

import copy

import pytest
import torch
from pairs import by_hand, family, gradients, pair
from torch import nn

EMPTY = [
    (dict(padding=1), (0, 8, 5, 5)),
    (dict(padding=1, norm='BN'), (0, 8, 5, 5)),
    (dict(padding=1, groups=8), (0, 8, 1, 1)),
    (dict(linear=True), (0, 8)),
    (dict(linear=True), (0, 5, 8)),
    # Of an image without proposals.
    (dict(linear=True), (2, 0, 8)),
    (dict(linear=True), (2, 0, 3, 8)),
]


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize(('kwargs', 'shape'), EMPTY, ids=str)
def test_a_batch_of_nothing_gives_nothing(kwargs, shape, training):
    training = training and kwargs.get('norm') != 'BN'
    model = family(**kwargs).train(training)
    plain = nn.Sequential(
        *(
            nn.Linear(8, 8)
            if 'linear' in kwargs
            else nn.Conv2d(8, 8, 3, 1, 1, groups=kwargs.get('groups', 1))
            for _ in model
        )
    )
    x = torch.randn(shape, requires_grad=True)
    output = model(x)
    assert output.shape == plain(x).shape
    output.sum().backward()
    assert x.grad.shape == x.shape
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or not parameter.grad.any(), name


SIZES = [
    dict(in_channels=1, out_channels=1, reduction=1),
    dict(in_channels=1, out_channels=7, reduction=1, norm=None),
    dict(in_channels=7, out_channels=1, reduction=7),
    dict(in_channels=2048, out_channels=2, size=1, reduction=2048),
    dict(in_channels=2, out_channels=2048, size=1),
    dict(in_channels=64, out_channels=64, groups=64, reduction=64),
]


@pytest.mark.parametrize('pixels', [1, 4])
@pytest.mark.parametrize('kwargs', SIZES, ids=str)
def test_narrow_wide_and_one_pixel_are_the_formula(kwargs, pixels):
    child, model = pair(**{'padding': kwargs.get('size', 3) // 2, **kwargs})
    x = torch.randn(2, kwargs['in_channels'], pixels, pixels)
    inputs = [x.requires_grad_(), *model.parameters()]
    inputs = [t for t in inputs if t is not child.parent.bias]
    ours, expected = child(x), by_hand(child, x)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
    both = gradients(ours, inputs), gradients(expected, inputs)
    for one, other in zip(*both, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


KINDS = [dict(padding=1), dict(padding=1, norm='BN'), dict(linear=True)]


def x_for(kwargs, dtype=torch.float):
    return torch.randn((3, 5, 8) if 'linear' in kwargs else (3, 8, 5, 5)).to(
        dtype
    )


@pytest.mark.parametrize('kwargs', KINDS, ids=str)
def test_weights_of_bfloat16_train_as_those_of_floats(kwargs):
    model = family(members=3, **kwargs)
    half, x = copy.deepcopy(model).bfloat16(), x_for(kwargs)
    expected, found = model(x), half(x.bfloat16())
    assert found.dtype == torch.bfloat16
    assert (found - expected).norm() < 0.05 * expected.norm()
    expected.square().mean().backward()
    found.square().mean().backward()
    for one, other in zip(model.parameters(), half.parameters(), strict=True):
        assert other.grad.dtype == torch.bfloat16
        assert (other.grad - one.grad).norm() < 0.1 * one.grad.norm() + 1e-3


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('kwargs', KINDS, ids=str)
def test_scaled_gradients_train_and_an_overflow_moves_nothing(kwargs, dtype):
    model = family(members=3, **kwargs)
    plain = copy.deepcopy(model)
    x = x_for(kwargs)
    scaler = torch.amp.GradScaler('cpu', init_scale=2.0**10)
    optimizers = [
        torch.optim.SGD(m.parameters(), 0.05) for m in (model, plain)
    ]

    def step(factor):
        for optimizer in optimizers:
            optimizer.zero_grad()
        with torch.autocast('cpu', dtype):
            loss = model(x).float().square().mean() * factor
        scaler.scale(loss).backward()
        scaler.step(optimizers[0])
        scaler.update()

    before = copy.deepcopy(model.state_dict())
    step(float('inf'))
    assert scaler.get_scale() == 2.0**9
    for name, parameter in model.named_parameters():
        assert parameter.equal(before[name]), name
    # BatchNorm's statistics follow the forward, as in a plain network.
    plain.load_state_dict(model.state_dict())
    for _ in range(3):
        step(1)
        plain(x).square().mean().backward()
        optimizers[1].step()
    for one, other in zip(
        model.named_parameters(), plain.parameters(), strict=True
    ):
        moved = (other - before[one[0]]).norm()
        assert (one[1] - other).norm() <= 0.1 * moved + 1e-3, one[0]
