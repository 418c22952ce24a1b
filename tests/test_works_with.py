"""The lines of docs/works_with.md that no other test runs."""

import math
import re
from collections import Counter

import pytest
import torch
from helpers import ROOT
from mmcv.cnn import get_model_complexity_info as by_mmcv
from mmengine.analysis import get_model_complexity_info as by_mmengine
from mmengine.registry import MODELS
from pairs import family, pair
from torch import nn
from torch.ao import quantization
from torch.ao.quantization import quantize_fx
from torch.nn.utils import parametrizations
from torch.utils.flop_counter import FlopCounterMode

import mmkdna
from mmkdna.layers import KernelDNAConv2d, KernelDNALayer

X = torch.randn(4, 8, 9, 9)
PAGE = (ROOT / 'docs' / 'works_with.md').read_text()


def test_every_line_of_the_page_names_a_test_that_exists():
    tools, _, _ = PAGE.partition('\n## ')
    lines = [line for line in tools.splitlines() if line.startswith('| ')]
    assert len(lines) > 20
    for line in lines[1:]:
        tests = re.findall(r'`(tests/test_\w+\.py)`', line.split('|')[-2])
        assert tests or 'not served yet' in line, line
        assert all((ROOT / test).is_file() for test in tests), line


@pytest.mark.parametrize('kwargs', [dict(padding=1), dict(linear=True)])
def test_a_script_of_members_fails_and_leaves_them(kwargs):
    model = family(**kwargs).eval()
    x = torch.randn(3, 5, 8) if 'linear' in kwargs else X
    expected = model(x)
    with pytest.raises(RuntimeError, match='torch.jit.trace or torch.export'):
        torch.jit.script(model)
    assert model(x).equal(expected)


@pytest.mark.parametrize(
    'change',
    [
        parametrizations.weight_norm,
        parametrizations.spectral_norm,
        parametrizations.orthogonal,
    ],
)
def test_a_child_itself_cannot_be_parametrised(change):
    child, model = pair(padding=1)
    expected = model(X)
    with pytest.raises(ValueError, match='parameter'):
        change(child)
    assert model(X).equal(expected)


def test_mobileone_stays_plain_and_can_be_deployed(log):
    import mmpretrain.models  # noqa: F401

    conv_cfg = dict(type='KernelDNA', min_channels=16, kernel_sizes=[1, 3])
    model = MODELS.build(
        dict(type='mmpretrain.MobileOne', arch='s0', conv_cfg=conv_cfg)
    )
    # Its train() returns nothing.
    model.eval()
    assert mmkdna.list_families(model) == []
    reason = 'MobileOneBlock.switch_to_deploy fuses its weight'
    assert any(reason in message for message in log.messages)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = model(x)[-1]
        model.switch_to_deploy()
        after = model(x)[-1]
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-4)


def resnet50(kernel_dna):
    from torchvision.models import resnet50

    model = resnet50().eval()
    # No norm, which counters count in ways of their own.
    return mmkdna.convert(model, norm=None) if kernel_dna else model


def test_counters_by_type_miss_members_and_counters_by_operation_do_not():
    size = (3, 64, 64)
    quiet = dict(as_strings=False, print_per_layer_stat=False)
    missed, found = Counter(), {}

    def count(member, _, y):
        missed[member.role] += y.numel() * math.prod(member.kernel_shape[1:])

    for kernel_dna in (False, True):
        model = resnet50(kernel_dna)
        handles = [
            member.register_forward_hook(count)
            for member in model.modules()
            if isinstance(member, KernelDNALayer)
        ]
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(torch.randn(1, *size))
        for handle in handles:
            handle.remove()
        found[kernel_dna] = (
            counter.get_total_flops() // 2,
            by_mmengine(model, size, show_table=False)['flops'],
            # Of the kind of ptflops and thop.
            by_mmcv(model, size, **quiet)[0],
        )
    differences = [
        ours - plain
        for ours, plain in zip(found[True], found[False], strict=True)
    ]
    # Two linear layers to a quarter of the channels and back.
    gates = sum(2 * c * c // 4 for c in (256, 256, 512))
    assert differences[0] == gates
    assert differences[1] == gates
    assert differences[2] == -missed.total()
    # As the page says.
    assert round(100 * missed.total() / found[False][2]) == 17
    assert '17 %' in PAGE
    # Torchinfo counts parents, which have a weight.
    assert missed['child'] == missed['parent']


def relative(ours, theirs):
    return (ours - theirs).norm() / theirs.norm()


def between_convs(layers, *stubs):
    """Layers between plain convs; stubs stand before and after each part."""
    first, last = nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3)
    if not stubs:
        return nn.Sequential(first, *layers, last).eval()
    to, back = stubs
    return nn.Sequential(
        to(), first, back(), *layers, to(), last, back()
    ).eval()


ENGINE = torch.backends.quantized.engine


@torch.no_grad()
def test_fx_quantisation_leaves_members_in_floats():
    model = between_convs(family(padding=1, members=3))
    expected = model(X)
    prepared = quantize_fx.prepare_fx(
        model, quantization.get_default_qconfig_mapping(ENGINE), (X,)
    )
    prepared(X)
    quantised = quantize_fx.convert_fx(prepared)
    members = [m for m in quantised.modules() if type(m) is KernelDNAConv2d]
    assert len(members) == 3
    assert {m.parent for m in members} - {None} <= set(members)
    kinds = [type(m).__module__ for m in quantised.modules()]
    assert sum('quantized.modules.conv' in kind for kind in kinds) == 2
    assert relative(quantised(X), expected) < 0.1


def quantise(model):
    """In eager mode."""
    model.qconfig = quantization.get_default_qconfig(ENGINE)
    quantization.prepare(model, inplace=True)
    model(X)
    quantization.convert(model, inplace=True)


STUBS = (quantization.QuantStub, quantization.DeQuantStub)


@torch.no_grad()
def test_eager_quantisation_of_the_layers_around_works():
    members = family(padding=1)
    model = between_convs(members, *STUBS)
    expected = model(X)
    for member in members:
        member.qconfig = None
    quantise(model)
    assert [type(m) for m in members] == [KernelDNAConv2d] * 2
    assert sum('quantized' in type(m).__module__ for m in model) == 6
    assert relative(model(X), expected) < 0.1


@torch.no_grad()
def test_eager_quantisation_cannot_feed_a_child_quantised_numbers():
    model = nn.Sequential(STUBS[0](), *family(padding=1), STUBS[1]()).eval()
    quantise(model)
    with pytest.raises(NotImplementedError, match='Quantized'):
        model(X)


@torch.no_grad()
def test_an_exported_child_has_a_computed_kernel():
    """Which PT2E's quantizers take for a parameter, and so fail."""
    model = family(padding=1, members=3).eval()
    graph = torch.export.export(model, (X,), strict=False).module().graph
    kernels = [
        node.args[1].op for node in graph.nodes if 'conv2d' in str(node.target)
    ]
    assert kernels == ['call_function', 'call_function', 'get_attr']


@torch.no_grad()
def test_channels_between_plain_layers_can_be_pruned():
    """As Torch-Pruning does, which members are to be ignored by."""
    members = family(padding=1)
    model = nn.Sequential(
        nn.Conv2d(8, 12, 3), nn.ReLU(), nn.Conv2d(12, 8, 3), *members
    )
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert not {*convs} & {*members}
    before, after = convs
    keep = before.weight.flatten(1).norm(dim=1).topk(6).indices
    rest = [i for i in range(12) if i not in keep]
    before.weight[rest], before.bias[rest] = 0, 0
    expected = model(X)
    before.weight = nn.Parameter(before.weight[keep])
    before.bias = nn.Parameter(before.bias[keep])
    after.weight = nn.Parameter(after.weight[:, keep])
    torch.testing.assert_close(model(X), expected)


def replica(model, device):
    """As nn.DataParallel makes it, without a second GPU."""
    copies = {m: m._replicate_for_data_parallel() for m in model.modules()}
    for module, copied in copies.items():
        for key, child in module._modules.items():
            copied._modules[key] = copies.get(child)
        for kind in ('_parameters', '_buffers'):
            for key, tensor in getattr(module, kind).items():
                moved = None if tensor is None else tensor.to(device)
                setattr(copied, key, moved)
    return copies[model]


def test_a_replica_of_data_parallel_takes_the_first_devices_kernel():
    x = X.to('meta')
    assert replica(family(padding=1), 'meta')(x).is_meta


def multiply_adds(model, x):
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(x)
    return counter.get_total_flops() // 2


def test_torchs_counter_counts_members_and_their_gates():
    model = family(padding=1, members=3)
    plain = nn.Sequential(*(nn.Conv2d(8, 8, 3, padding=1) for _ in '123'))
    gates = 2 * len(X) * (8 * 4 + 4 * 8)
    assert multiply_adds(model, X) == multiply_adds(plain, X) + gates


def test_eager_fusing_refuses_a_member():
    model = family(padding=1).eval()
    expected = model(X)
    fused = nn.Sequential(model[0], nn.ReLU())
    with pytest.raises(AssertionError, match='fuser method'):
        torch.ao.quantization.fuse_modules(fused, ['0', '1'])
    assert model(X).equal(expected)


def test_dynamic_quantization_leaves_members_alone():
    model = nn.Sequential(*family(linear=True), nn.Linear(8, 8)).eval()
    quantised = torch.ao.quantization.quantize_dynamic(model, {nn.Linear})
    x = torch.randn(3, 5, 8)
    assert type(quantised[2]) is not nn.Linear
    assert quantised[:2](x).equal(model[:2](x))
