"""A parent's kernel: frozen, pruned, normalised."""

import copy

import pytest
import torch
from pairs import by_hand, family, pair
from torch import nn
from torch.func import functional_call
from torch.nn.utils import parametrizations, prune

pytestmark = pytest.mark.filterwarnings('ignore:`torch.nn.utils.weight_norm')

X = torch.randn(2, 8, 6, 6)


def pruned(parent):
    prune.l1_unstructured(parent, 'weight', 0.3)
    return lambda: parent.weight_orig * parent.weight_mask


def old_weight_norm(parent):
    nn.utils.weight_norm(parent)

    def kernel():
        v = parent.weight_v
        length = v.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
        return parent.weight_g * v / length

    return kernel


def weight_norm(parent):
    parametrizations.weight_norm(parent)

    def kernel():
        g, v = parent.parametrizations.weight.parameters()
        return g * v / v.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)

    return kernel


def old_spectral_norm(parent):
    nn.utils.spectral_norm(parent)

    def kernel():
        w = parent.weight_orig
        return w / (parent.weight_u @ w.flatten(1) @ parent.weight_v)

    return kernel


def spectral_norm(parent):
    parametrizations.spectral_norm(parent)

    def kernel():
        w = parent.parametrizations.weight.original
        norm = parent.parametrizations.weight[0]
        return w / (norm._u @ w.flatten(1) @ norm._v)

    return kernel


MAKERS = [
    pruned,
    old_weight_norm,
    weight_norm,
    old_spectral_norm,
    spectral_norm,
]


@pytest.mark.parametrize('change', MAKERS)
@pytest.mark.parametrize('order', ['last', 'first'])
def test_a_kernel_that_is_made_anew_is_never_one_forward_late(change, order):
    child, model = pair(padding=1, parent=order)
    parent = child.parent
    kernel = change(parent)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    before = kernel().detach().clone()
    for _ in range(3):
        optimizer.zero_grad()
        model(X).square().mean().backward()
        assert all(p.grad.abs().sum() > 0 for p in model.parameters())
        optimizer.step()
    assert not torch.allclose(kernel(), before)

    model.eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # The scale of a direction would not show.
            if 'weight' in name:
                parameter.data += 0.1 * torch.randn_like(parameter)
        made = kernel()
        first, second = model(X), model(X)
        assert first.equal(second)
        # By a net of which no layer shares anything.
        plain = nn.Conv2d(8, 8, 3, padding=1)
        y = X
        for layer in model:
            if layer is parent:
                tensors = {'weight': made, 'bias': layer.bias}
                y = functional_call(plain, tensors, y)
            else:
                y = _child(layer, made, y)
        torch.testing.assert_close(first, y)


def _child(child, kernel, x):
    """By hand, with a kernel in place of the parent's."""
    other, model = pair(padding=1)
    model.train(child.training).to(kernel)
    other.load_state_dict(child.state_dict())
    del other.parent.weight
    other.parent.weight = kernel
    return by_hand(other, x)


@pytest.mark.parametrize('change', MAKERS)
def test_gradients_reach_what_a_kernel_is_made_of(change):
    child, model = pair(padding=1)
    model.double()
    kernel = change(child.parent)
    model.eval()
    sources = [
        p for n, p in child.parent.named_parameters() if 'bias' not in n
    ]
    ours = torch.autograd.grad(child(X.double()).square().sum(), sources)
    made = kernel()
    output = _child(child, made, X.double())
    expected = torch.autograd.grad(output.square().sum(), sources)
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    'change',
    [
        lambda m: prune.l1_unstructured(m, 'weight', 0.3),
        nn.utils.weight_norm,
        nn.utils.spectral_norm,
    ],
)
def test_a_child_itself_cannot_be_pruned_or_normalised(change):
    child, model = pair(padding=1)
    expected = model(X)
    # The last one asks for its entry among the parameters.
    with pytest.raises((AttributeError, KeyError), match='weight'):
        change(child)
    assert model(X).equal(expected)


def step(model, x=X, steps=3):
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize('order', ['last', 'first'])
@pytest.mark.parametrize('frozen_in_eval', [False, True])
@pytest.mark.parametrize(
    'change', [lambda parent: None, old_weight_norm, weight_norm]
)
def test_a_child_that_is_frozen_later_freezes_the_kernel(
    log, order, frozen_in_eval, change
):
    model = family(padding=1, members=3, parent=order)
    parent = next(m for m in model if m.role == 'parent')
    frozen, other = (m for m in model if m.role == 'child')
    if order == 'last':
        change(parent)
    frozen.requires_grad_(False)
    if frozen_in_eval:
        frozen.eval()
    before = frozen(X).detach()
    bias, own = parent.bias.clone(), other.adapter.static.filter.clone()
    step(model)
    assert frozen(X).equal(before)
    # The rest of the family goes on.
    assert not parent.bias.equal(bias)
    assert not other.adapter.static.filter.equal(own)
    (said,) = (r for r in log.records if 'is frozen, too' in r.getMessage())
    assert said.levelname == 'WARNING'


def test_a_linear_child_that_is_frozen_later_freezes_the_kernel():
    child, model = pair(linear=True)
    x = torch.randn(2, 5, 8)
    child.requires_grad_(False)
    before = child(x).detach()
    step(model, x)
    assert child(x).equal(before)


def test_a_child_that_is_frozen_before_a_copy_is_frozen_in_it():
    model = family(padding=1)
    model[0].requires_grad_(False)
    copied = copy.deepcopy(model)
    before = copied[0](X).detach()
    step(copied)
    assert copied[0](X).equal(before)
    assert model[1].weight.requires_grad


@pytest.mark.parametrize('order', ['last', 'first'])
def test_a_parent_that_is_frozen_later_leaves_its_children_trained(order):
    child, model = pair(padding=1, parent=order)
    child.parent.requires_grad_(False)
    before = child.parent(X).detach()
    old = child(X).detach()
    step(model)
    assert child.parent(X).equal(before)
    assert not child(X).equal(old)


def test_evaluation_freezes_nothing():
    child, model = pair(padding=1)
    model.eval()
    child.requires_grad_(False)
    model(X)
    assert child.parent.weight.requires_grad


@pytest.mark.parametrize('family_size', [2, None])
def test_what_vgg_freezes_while_it_trains_stays(family_size):
    """All stages of mmpretrain's are one nn.Sequential."""
    from mmengine.registry import MODELS

    model = MODELS.build(
        dict(
            type='mmpretrain.VGG',
            depth=16,
            norm_cfg=dict(type='BN'),
            norm_eval=True,
            frozen_stages=4,
            out_indices=(3, 4),
            conv_cfg=dict(
                type='KernelDNA', min_channels=512, family_size=family_size
            ),
        )
    )
    model.train()
    assert any(p.requires_grad for p in model.parameters())
    assert any('adapter' in n for n, _ in model.named_parameters())
    x = torch.randn(2, 3, 32, 32)
    before = model(x)[0].detach()
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    for _ in range(2):
        optimizer.zero_grad()
        model(x)[1].square().mean().backward()
        optimizer.step()
    frozen, trained = model(x)
    assert frozen.equal(before)
    assert trained.isfinite().all()
