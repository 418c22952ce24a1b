"""The lean convolution: gradients of any shape, and what it keeps."""

import pytest
import torch
from pairs import family, gradients, pair
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.utils._python_dispatch import TorchDispatchMode

import mmkdna.layers.member
from mmkdna.layers import StaticModulation
from mmkdna.layers.kernel import Convolution, Linear, trains_eagerly
from mmkdna.layers.kernel import lean as of_sources

DOUBLE = torch.double


def lean(operation, static, x, gate, kernel, bias):
    sources = kernel, *static.sources()
    return of_sources(operation, static.derive, x, gate, bias, *sources)


def modulation(*kernel_shape):
    static = StaticModulation(kernel_shape).double()
    for parameter in static.parameters():
        nn.init.normal_(parameter, std=0.3)
    return static


def convolution(
    images=2, channels=2, out=2, groups=1, kernel=3, pixels=3, **kwargs
):
    """The operation, the modulation and the tensors of :func:`lean`."""
    static = modulation(out, channels // groups, kernel, kernel)
    operation = Convolution(
        kwargs.get('stride', (1, 1)),
        kwargs.get('padding', (kernel // 2,) * 2),
        kwargs.get('dilation', (1, 1)),
        groups,
    )
    tensors = (
        torch.randn(images, channels, pixels, pixels, dtype=DOUBLE),
        torch.rand(images, channels, 1, 1, dtype=DOUBLE),
        torch.randn(out, channels // groups, kernel, kernel, dtype=DOUBLE),
        torch.randn(out, dtype=DOUBLE),
    )
    return operation, static, [t.requires_grad_() for t in tensors]


SHAPES = [
    {},
    dict(out=3, stride=(2, 1), padding=(0, 2), pixels=4),
    dict(dilation=(2, 1), padding=(2, 1)),
    dict(groups=2, channels=4, out=6, pixels=2),
    dict(groups=2),
    dict(groups=2, out=4),
    dict(kernel=1, out=3),
    dict(kernel=1, groups=2),
    # The gate has the shape of the input.
    dict(pixels=1),
    dict(pixels=1, kernel=1),
    dict(pixels=1, groups=2),
    dict(images=1),
    dict(images=1, pixels=1, groups=2),
    # Everything has one shape.
    dict(images=1, channels=1, out=1, pixels=1, kernel=1),
]


@pytest.mark.parametrize('shape', SHAPES, ids=str)
@pytest.mark.parametrize('bias', [True, False])
def test_gradients_of_gradients_of_a_lean_convolution(shape, bias):
    operation, static, (x, gate, kernel, b) = convolution(**shape)

    def function(x, gate, kernel, *rest):
        return lean(
            operation, static, x, gate, kernel, rest[0] if bias else None
        )

    inputs = (x, gate, kernel, *[b] * bias, *static.parameters())
    assert gradcheck(function, inputs)
    assert gradgradcheck(function, inputs)


@pytest.mark.parametrize('shape', [(2, 3, 4), (1, 1, 4), (2, 1, 4), (1, 3, 1)])
@pytest.mark.parametrize('bias', [True, False])
def test_gradients_of_gradients_of_a_lean_linear_map(shape, bias):
    images, _, channels = shape
    static = modulation(5, channels)
    x, gate, kernel, b = (
        torch.randn(*size, dtype=DOUBLE, requires_grad=True)
        for size in (shape, (images, 1, channels), (5, channels), (5,))
    )

    def function(x, gate, kernel, *rest):
        return lean(
            Linear(), static, x, gate, kernel, rest[0] if bias else None
        )

    inputs = (x, gate, kernel, *[b] * bias, static.filter)
    assert gradcheck(function, inputs)
    assert gradgradcheck(function, inputs)


@pytest.mark.parametrize('pixels', [2, 1])
@pytest.mark.parametrize('groups', [1, 2])
@pytest.mark.parametrize(
    'needed',
    ['x', 'gate', 'kernel', 'bias', 'static', 'x kernel', 'gate bias'],
)
def test_any_of_the_inputs_may_need_no_gradient(needed, pixels, groups):
    operation, static, tensors = convolution(groups=groups, pixels=pixels)
    for name, tensor in zip(
        ('x', 'gate', 'kernel', 'bias'), tensors, strict=True
    ):
        tensor.requires_grad_(name in needed.split())
    static.requires_grad_(needed == 'static')
    inputs = [t for t in (*tensors, *static.parameters()) if t.requires_grad]

    def function(*_):
        return lean(operation, static, *tensors)

    assert gradcheck(function, inputs)
    assert gradgradcheck(function, inputs)


class Counted(TorchDispatchMode):
    """Counts matrix products, and new tensors of a size."""

    products = made = 0

    def __init__(self, size=0):
        super().__init__()
        self.size = size

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        old = {id(t) for t in args}
        found = func(*args, **(kwargs or {}))
        self.products += func is torch.ops.aten.mm.default
        for tensor in found if isinstance(found, tuple) else (found,):
            if isinstance(tensor, torch.Tensor) and not tensor._is_view():
                is_new = id(tensor) not in old
                self.made += is_new and tensor.numel() == self.size
        return found


@pytest.mark.parametrize(
    ('needed', 'products'),
    [('x', 1), ('gate', 1), ('kernel', 1), ('bias', 0), ('x kernel', 2)],
)
def test_a_gradient_that_nobody_needs_is_not_computed(needed, products):
    tensors = dict(
        x=torch.randn(2, 3, 4),
        gate=torch.rand(2, 1, 4),
        kernel=torch.randn(5, 4),
        bias=torch.randn(5),
    )
    for name, tensor in tensors.items():
        tensor.requires_grad_(name in needed.split())
    static = modulation(5, 4).float().requires_grad_(False)
    output = lean(Linear(), static, *tensors.values()).sum()
    with Counted() as counted:
        output.backward()
    assert counted.products == products


def test_a_backward_makes_two_tensors_of_the_size_of_the_input():
    """The gated input, and its gradient, which becomes that of the input."""
    operation, static, (x, gate, kernel, bias) = convolution(out=3, pixels=7)
    output = lean(operation, static, x, gate.detach(), kernel, bias).sum()
    with Counted(x.numel()) as counted:
        torch.autograd.grad(output, x)
    assert counted.made == 2


@pytest.mark.parametrize('linear', [False, True])
def test_gradients_with_a_graph_are_those_without(linear):
    child, _ = pair(**(dict(linear=True) if linear else dict(padding=1)))
    x = torch.randn((2, 5, 8) if linear else (2, 8, 5, 5), requires_grad=True)
    inputs = [x, child.parent.weight, *child.parameters()]
    expected = torch.autograd.grad(child(x).square().sum(), inputs)
    found = torch.autograd.grad(
        child(x).square().sum(), inputs, create_graph=True
    )
    torch.testing.assert_close(found, expected)


def test_of_the_modulation_one_half_may_be_frozen():
    operation, static, tensors = convolution()
    static.spatial.requires_grad_(False)
    inputs = [*tensors, static.filter]

    def function(*_):
        return lean(operation, static, *tensors)

    assert gradcheck(function, inputs)
    assert gradgradcheck(function, inputs)


def test_a_graph_that_is_kept_gives_its_gradients_twice():
    operation, static, tensors = convolution(pixels=1, groups=2)
    output = lean(operation, static, *tensors).sum()
    first = torch.autograd.grad(output, tensors, retain_graph=True)
    second = torch.autograd.grad(output, tensors)
    for one, two in zip(first, second, strict=True):
        assert one.equal(two)


@pytest.mark.parametrize(
    'kwargs',
    [
        dict(padding=1),
        dict(padding=1, groups=8),
        dict(size=1, out_channels=6, bias=False),
        dict(linear=True),
    ],
    ids=str,
)
@pytest.mark.parametrize('autocast', [False, True])
def test_lean_training_is_ordinary_training(kwargs, autocast, monkeypatch):
    child, model = pair(**kwargs)
    x = torch.randn((2, 5, 8) if 'linear' in kwargs else (2, 8, 5, 5))
    x.requires_grad_()
    inputs = [x, child.parent.weight, *child.parameters()]
    found = []
    for ordinary in (False, True):
        if ordinary:
            monkeypatch.setattr(
                mmkdna.layers.member, 'trains_eagerly', lambda *_: False
            )
        with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
            output = child(x)
        assert ('Lean' in _names(output)) is not ordinary
        found.append((output, *gradients(output, inputs)))
    assert found[0][0].dtype == (torch.bfloat16 if autocast else torch.float)
    for ours, expected in zip(*found, strict=True):
        assert ours.dtype == expected.dtype
        error = (ours - expected).norm() / expected.norm()
        assert error <= (1e-2 if autocast else 1e-5)
    assert found[0][0].equal(found[1][0])


def _names(output):
    """The functions behind a tensor, in one text."""
    seen, ahead = set(), [output.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is not None and node not in seen:
            seen.add(node)
            ahead += [below for below, _ in node.next_functions]
    return ' '.join(node.name() for node in seen)


def saved_sizes(function, *args):
    """Numbers of elements of what a forward keeps, each storage once."""
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes() // tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        # Its output lives on, or its memory might be used again.
        output = function(*args)
    assert output is not None
    return sorted(kept.values(), reverse=True)


@pytest.mark.parametrize('linear', [False, True])
def test_a_child_keeps_its_input_and_its_parents_kernel_alone(linear):
    kwargs = dict(linear=True) if linear else dict(padding=1)
    child, _ = pair(16, 16, **kwargs)
    x = torch.randn((2, 400, 16) if linear else (2, 16, 20, 20))
    x.requires_grad_()
    kernel = child.parent.weight.numel()
    of_x, of_kernel, *small = saved_sizes(child, x)
    assert (of_x, of_kernel) == (x.numel(), kernel)
    assert max(small) < kernel


def test_on_five_levels_a_child_keeps_its_kernel_once():
    child, _ = pair(16, 16, padding=1)
    levels = [
        torch.randn(1, 16, size, size, requires_grad=True)
        for size in (28, 24, 20, 18, 16)
    ]
    kernel = child.parent.weight.numel()
    sizes = saved_sizes(lambda: [child(x) for x in levels])
    assert [s for s in sizes if s >= kernel] == [
        *(x.numel() for x in levels),
        kernel,
    ]


def test_a_stack_of_children_keeps_what_a_plain_stack_keeps():
    model = family(16, 16, members=4, padding=1)
    plain = nn.Sequential(*(nn.Conv2d(16, 16, 3, padding=1) for _ in model))
    x = torch.randn(1, 16, 60, 60)
    ours, theirs = (sum(saved_sizes(m, x)) for m in (model, plain))
    assert ours < 1.02 * theirs


class Kind(torch.Tensor):
    """As a wrapper that shards parameters has one."""


def test_what_is_not_plain_eager_training_runs_ordinary_operations():
    x, kernel = torch.randn(2, 3), nn.Parameter(torch.randn(3, 3))
    assert trains_eagerly(x, kernel)
    assert trains_eagerly(x, kernel.detach())
    assert not trains_eagerly(x.as_subclass(Kind), kernel)
    assert not trains_eagerly(x, kernel.detach().as_subclass(Kind))
    with torch.no_grad():
        assert not trains_eagerly(x, kernel)
    with torch.autograd.forward_ad.dual_level():
        assert not trains_eagerly(x, kernel)
    found = []
    torch.func.grad(
        lambda x: found.append(trains_eagerly(x, kernel)) or x.sum()
    )(x)
    assert found == [False]


@pytest.mark.parametrize('linear', [False, True])
def test_a_child_of_wrapped_tensors_runs_ordinary_operations(linear):
    child, _ = pair(**(dict(linear=True) if linear else dict(padding=1)))
    x = torch.randn((2, 5, 8) if linear else (2, 8, 5, 5))
    assert 'Lean' in _names(child(x))
    assert 'Lean' not in _names(child(x.as_subclass(Kind)))
    static = child.adapter.static
    static.filter = nn.Parameter(static.filter.detach().as_subclass(Kind))
    assert 'Lean' not in _names(child(x))
