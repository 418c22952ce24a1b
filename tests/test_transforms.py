"""Tools that look into a layer: traces, exports, compilers, transforms."""

import io
import weakref

import pytest
import torch
from pairs import family
from torch import nn
from torch.func import functional_call, grad, jvp, vmap

import mmkdna

X = torch.randn(3, 8, 6, 6)
KINDS = [
    dict(padding=1),
    dict(padding=1, groups=8, parent='first', gate='sigmoid'),
    dict(padding='same', norm=None, bias=False),
    dict(linear=True),
]


@pytest.fixture(params=KINDS, ids=str)
def model(request):
    return family(**request.param)


@pytest.fixture
def x(model):
    return torch.randn(3, 5, 8) if hasattr(model[0], 'in_features') else X


def twice(x):
    return torch.cat([x, x.flip(0)])


@pytest.mark.parametrize('training', [True, False])
def test_a_trace_is_saved_and_serves_other_sizes(model, x, training):
    model.train(training)
    traced = torch.jit.trace(model, x[:1], check_trace=False)
    file = io.BytesIO()
    torch.jit.save(traced, file)
    file.seek(0)
    loaded = torch.jit.load(file)
    for batch in (x, twice(x), x.repeat_interleave(2, -2)):
        torch.testing.assert_close(loaded(batch), model(batch))


def test_a_trace_with_one_image_without_gradients_serves_several(model, x):
    model.eval().requires_grad_(False)
    with torch.no_grad():
        traced = torch.jit.trace(model, x[:1], check_trace=False)
        torch.testing.assert_close(traced(x), model(x))


def traces_weak_references():
    """Whether the compiler does; a child's of its parent is one."""
    reference = weakref.ref(family(padding=1))

    def call(x):
        return x + (reference() is None)

    try:
        torch.compile(call, fullgraph=True, backend='eager')(X)
    except torch._dynamo.exc.Unsupported:
        return False
    return True


@pytest.mark.parametrize('training', [True, False])
def test_an_export_serves_any_batch(model, x, training):
    model.train(training)
    batch = {0: torch.export.Dim('batch')}
    exported = torch.export.export(
        model, (x,), dynamic_shapes=(batch,), strict=False
    )
    module = exported.module()
    for images in (x[:2], x, twice(x)):
        torch.testing.assert_close(module(images), model(images))


@pytest.mark.parametrize('training', [True, False])
def test_it_compiles_with_the_gradients(model, x, training):
    model.train(training)
    found = []
    torch._dynamo.reset()
    # As one graph, wherever that can be.
    whole = traces_weak_references()
    for run in (
        torch.compile(model, fullgraph=whole, backend='aot_eager'),
        model,
    ):
        model.zero_grad()
        output = run(x)
        output.square().sum().backward()
        found.append((output, *(p.grad for p in model.parameters())))
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


def test_fx_traces_it(model, x):
    graph = torch.fx.symbolic_trace(model)
    torch.testing.assert_close(graph(twice(x)), model(twice(x)))
    # The graph has the parameters themselves.
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    torch.testing.assert_close(graph(x), model(x))


class Through(torch.fx.Tracer):
    """Traces into every module."""

    def is_leaf_module(self, *_):
        return False


def test_fx_may_trace_into_a_convolution():
    model = family(padding=1)
    graph = torch.fx.GraphModule(model, Through().trace(model))
    assert not any(node.op == 'call_module' for node in graph.graph.nodes)
    torch.testing.assert_close(graph(X), model(X))


def test_torchvision_extracts_features():
    from torchvision.models import resnet18
    from torchvision.models.feature_extraction import create_feature_extractor

    net = mmkdna.convert(resnet18(num_classes=2), min_channels=256).eval()
    for name, parameter in net.named_parameters():
        if '.adapter.' in name:
            nn.init.normal_(parameter, std=0.1)
    images = torch.randn(1, 3, 32, 32)
    extract = create_feature_extractor(net, {'fc': 'fc', 'layer3': 'map'})
    found = extract(images)
    torch.testing.assert_close(found['fc'], net(images))
    assert found['map'].shape == (1, 256, 2, 2)


def loss(model):
    def loss(parameters, x):
        return functional_call(model, parameters, (x,)).square().mean()

    return loss


def by_backward(model, x):
    model.zero_grad()
    model(x).square().mean().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def detached(model):
    return {name: p.detach() for name, p in model.named_parameters()}


def test_func_grad_gives_the_gradients_of_backward(model, x):
    ours = grad(loss(model))(detached(model), x)
    for name, expected in by_backward(model, x).items():
        torch.testing.assert_close(ours[name], expected)


def test_vmap_gives_gradients_for_each_sample(model, x):
    def of_one(parameters, x):
        return loss(model)(parameters, x[None])

    ours = vmap(grad(of_one), (None, 0))(detached(model), x)
    for i, image in enumerate(x):
        for name, expected in by_backward(model, image[None]).items():
            torch.testing.assert_close(ours[name][i], expected)


@pytest.mark.parametrize('training', [True, False])
def test_vmap_of_the_forward_is_a_loop_over_it(model, x, training):
    model.train(training)
    torch.testing.assert_close(
        vmap(lambda image: model(image[None])[0])(x),
        torch.cat([model(image[None]) for image in x]),
    )


def test_forward_derivatives_are_differences(model, x):
    model.double()
    x = x.double()
    direction = torch.randn_like(x)
    output, ours = jvp(model, (x,), (direction,))
    assert output.equal(model(x))
    with torch.no_grad():
        step = 1e-6 * direction
        expected = (model(x + step) - model(x - step)) / 2e-6
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6)


def test_a_functional_call_uses_the_kernel_that_it_is_given(model, x):
    other = {name: torch.randn_like(p) for name, p in model.named_parameters()}
    output = functional_call(model, other, (x,))
    assert not torch.allclose(output, model(x))
    model.load_state_dict(other, strict=False)
    torch.testing.assert_close(output, model(x))
