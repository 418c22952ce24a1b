"""A child's kernel is kept in evaluation, and never out of date."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from mmcv.cnn import build_conv_layer
from mmengine.hooks import EMAHook
from mmengine.model import ExponentialMovingAverage
from torch import nn

import mmkdna
from mmkdna.layers import KernelDNALinear, Policy

X = torch.randn(2, 16, 6, 6)


def family(**conv_cfg):
    """A child, and its parent behind it, away from their start."""
    conv_cfg = dict(type='KernelDNA', min_channels=16, **conv_cfg)
    model = nn.Sequential(
        *(
            build_conv_layer(conv_cfg, 16, 16, 3, padding=1, bias=False)
            for _ in range(2)
        )
    )
    mmkdna.form_families(model)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


def by_hand(child):
    static = child.adapter.static
    kernel = child.parent.weight * (1 + static.spatial) * (1 + static.filter)
    if child.residual is not None:
        kernel = kernel + (1 - child.fade) * child.residual
    return kernel.detach()


def output(model):
    x = X.to(next(model.parameters()))
    with torch.no_grad():
        return model(x)


def step(model):
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    model(X).square().mean().backward()
    optimizer.step()


def load(model):
    model.load_state_dict(family().state_dict())


def teach(model):
    """As mmdet's MeanTeacherHook does, with nothing said to the model."""
    for ours, theirs in zip(
        model.parameters(), family().parameters(), strict=True
    ):
        ours.data.mul_(0.99).add_(theirs.data, alpha=0.01)


def update_average(model):
    """As ExponentialMovingAverage does to its copy."""
    average = ExponentialMovingAverage(model)
    average.module = model
    average.avg_parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, parameter in family().named_parameters():
            average.avg_func(average.avg_parameters[name].data, parameter, 1)


def swap_ema(model):
    """As EMAHook does for a validation: through `.data`."""
    hook = EMAHook()
    hook.src_model = model
    hook.ema_model = ExponentialMovingAverage(family())
    hook.enabled_by_epoch = True
    hook._swap_ema_parameters()


def edit_parent(model):
    with torch.no_grad():
        model[1].weight.mul_(2)


def edit_spatial(model):
    with torch.no_grad():
        model[0].adapter.static.spatial.add_(1)


def new_data(model):
    model[1].weight.data = torch.randn_like(model[1].weight)


def new_parameter(model):
    model[1].weight = nn.Parameter(torch.randn_like(model[1].weight))


def there_and_back(model):
    model.half().float()


def by_meta(model):
    model.to('meta')
    model.to_empty(device='cpu')
    load(model)


def train_and_eval(model):
    model.train()
    model[1].weight.data.mul_(3)
    model.eval()


def take_a_residual(model):
    model[0].hold_residual(torch.randn(16, 16, 3, 3))


def as_vector(model):
    vector = nn.utils.parameters_to_vector(model.parameters())
    nn.utils.vector_to_parameters(2 * vector.detach(), model.parameters())


@pytest.mark.parametrize(
    'change',
    [
        step,
        load,
        swap_ema,
        teach,
        update_average,
        edit_parent,
        edit_spatial,
        new_data,
        new_parameter,
        there_and_back,
        nn.Module.double,
        nn.Module.bfloat16,
        by_meta,
        train_and_eval,
        take_a_residual,
        as_vector,
    ],
)
@pytest.mark.parametrize('inference_mode', [False, True])
def test_never_stale(change, inference_mode):
    model = family()
    child = model[0]
    if inference_mode:
        # What was kept there first is not what is returned elsewhere.
        with torch.inference_mode():
            child.kernel()
    with torch.no_grad():
        before = child.kernel()
        assert child.kernel() is before
    change(model)
    with torch.no_grad():
        kernel = child.kernel()
        assert child.kernel() is kernel
    torch.testing.assert_close(kernel, by_hand(child))
    assert kernel.dtype != before.dtype or not kernel.equal(before)
    # The network uses it.
    fresh = copy.deepcopy(model)
    assert output(model).equal(output(fresh))


def test_the_fade_moves_it():
    model = family()
    model[0].hold_residual(torch.randn(16, 16, 3, 3))
    first = output(model)
    mmkdna.set_fade(model, 0.5)
    assert not output(model).equal(first)
    with torch.no_grad():
        torch.testing.assert_close(model[0].kernel(), by_hand(model[0]))
    mmkdna.set_fade(model, 1)
    with torch.no_grad():
        torch.testing.assert_close(model[0].kernel(), by_hand(model[0]))


@pytest.mark.parametrize('duplicate', [copy.deepcopy, 'pickle'])
def test_a_copy_has_its_own(duplicate):
    model = family()
    output(model)
    if duplicate == 'pickle':
        size = len(pickle.dumps(family()))
        dump = pickle.dumps(model)
        # Nothing kept is in it.
        assert abs(len(dump) - size) < 1000
        other = pickle.loads(dump)
    else:
        other = duplicate(model)
    expected = output(model)
    edit_parent(model)
    assert output(other).equal(expected)
    edit_spatial(other)
    with torch.no_grad():
        torch.testing.assert_close(other[0].kernel(), by_hand(other[0]))


def test_no_gradient_is_lost_in_evaluation():
    model = family()
    output(model)
    model(X).sum().backward()
    assert model[1].weight.grad.abs().sum() > 0
    static = model[0].adapter.static
    assert static.filter.grad.abs().sum() > 0


def test_kept_in_inference_mode_it_serves_gradients_of_the_input():
    model = family().requires_grad_(False)
    with torch.inference_mode():
        model(X)
    with torch.no_grad():
        kernel = model[0].kernel()
    assert not kernel.is_inference()
    x = X.clone().requires_grad_()
    model(x).sum().backward()
    assert x.grad.isfinite().all()


def test_a_model_made_in_inference_mode_runs():
    with torch.inference_mode():
        model = family()
        torch.testing.assert_close(model[0].kernel(), by_hand(model[0]))
        model(X)
        edit_parent(model)
        torch.testing.assert_close(model[0].kernel(), by_hand(model[0]))


def test_an_odd_layout_is_not_kept():
    model = family()
    weight = torch.randn(16, 16, 3, 6)[..., ::2]
    model[1].weight = nn.Parameter(weight)
    with torch.no_grad():
        assert model[0].kernel() is not model[0].kernel()
        torch.testing.assert_close(model[0].kernel(), by_hand(model[0]))


def test_training_keeps_none_nor_where_memory_matters():
    for model in (family().train(), family(cache_kernels=False)):
        with torch.no_grad():
            assert model[0].kernel() is not model[0].kernel()
        output(model)
        assert model[0]._cache._kernel is None
    model = family()
    output(model)
    assert model[0]._cache._kernel is not None
    model.train()
    assert model[0]._cache._kernel is None
    with pytest.raises(ValueError, match='cache_kernels=1: expected True'):
        Policy(cache_kernels=1)


@pytest.mark.parametrize('groups', [1, 2])
def test_one_image_scales_the_smaller_of_kernel_and_input(groups):
    conv_cfg = dict(type='KernelDNA', min_channels=8)
    model = nn.Sequential(
        *(
            build_conv_layer(
                conv_cfg, 16, 16, 3, padding=1, groups=groups, bias=True
            )
            for _ in range(2)
        )
    )
    mmkdna.form_families(model)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    child = model.eval().double()[0]
    for size in (4, 40):
        x = torch.randn(1, 16, size, size).double()
        gate = child.adapter.routing(x.mean((2, 3)))
        expected = F.conv2d(
            x * gate[..., None, None],
            by_hand(child),
            child.bias,
            padding=1,
            groups=groups,
        )
        with torch.no_grad():
            torch.testing.assert_close(child(x), expected)
        torch.testing.assert_close(child(x), expected)


def test_one_image_of_a_linear_child():
    policy = Policy(min_channels=8, kernel_sizes=(1,))
    model = nn.Sequential(
        *(KernelDNALinear(8, 8, policy=policy) for _ in range(2))
    )
    mmkdna.form_families(model)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    child = model.eval().double()[0]
    x = torch.randn(1, 9, 11, 8).double()
    expected = child(x)
    with torch.no_grad():
        torch.testing.assert_close(child(x), expected)
    assert child.kernel().shape == (8, 8)


@pytest.mark.parametrize('channels_last', [False, True])
def test_memory_format_and_autocast_are_kept(channels_last):
    form = torch.channels_last if channels_last else torch.contiguous_format
    model = family().to(memory_format=form)
    x = X.contiguous(memory_format=form)
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            assert model(x).is_contiguous(memory_format=form)
            with torch.autocast('cpu', torch.bfloat16):
                half = model(x)
        assert half.dtype == torch.bfloat16
        assert half.is_contiguous(memory_format=form)
    full = model(x)
    assert (half.float() - full).norm() < 0.01 * full.norm()


def test_a_trace_made_with_one_image_holds_for_several():
    model = family()
    traced = torch.jit.trace(model, X[:1], check_trace=False)
    torch.testing.assert_close(traced(X), model(X))
