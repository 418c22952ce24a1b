"""KernelDNA in any PyTorch model, and out of it again."""

import copy
import io

import pytest
import torch
import torchvision
from helpers import families
from torch import nn
from weights_for import off, outputs, randomise

import mmkdna
from mmkdna.errors import BadInput
from mmkdna.layers import KernelDNALayer

NETWORKS = {
    'resnet18': {},
    'resnet50': {},
    'mobilenet_v2': dict(kernel_sizes=(1,), min_channels=32),
    'convnext_tiny': dict(linear=True, kernel_sizes=(1,)),
    'densenet121': dict(min_channels=32),
    'swin_t': dict(linear=True, kernel_sizes=(1,)),
}


def convs(n=4, channels=16):
    layers = [nn.Conv2d(channels, channels, 3, padding=1) for _ in range(n)]
    return nn.Sequential(nn.Conv2d(3, channels, 3), nn.Sequential(*layers))


def convert(model, **settings):
    return mmkdna.convert(model, **{'min_channels': 16, **settings})


def members(model):
    return [m for m in model.modules() if isinstance(m, KernelDNALayer)]


def as_it_was(model, before):
    """Whether nothing of a model is converted, nor marked."""
    return (
        not members(model)
        and not any('kernel_dna' in vars(m) for m in model.modules())
        and list(model.state_dict()) == list(before)
        and all(model.state_dict()[k].equal(v) for k, v in before.items())
    )


@pytest.mark.parametrize('name', NETWORKS)
class TestNetworksOfTorchvision:
    @pytest.fixture
    def plain(self, name):
        return randomise(getattr(torchvision.models, name)())

    def test_equal_kernels_are_exact_and_come_back(self, plain, name):
        settings = NETWORKS[name]
        twin = mmkdna.convert(copy.deepcopy(plain), **settings)
        state = plain.state_dict()
        for family in mmkdna.list_families(twin):
            for child, _ in family.children:
                parent = state[f'{family.parent.name}.weight']
                state[f'{child}.weight'].copy_(parent)
        expected = outputs(plain)
        modules = list(plain.modules())
        assert mmkdna.convert(plain, **settings) is plain
        assert families(plain)
        assert off(outputs(plain), expected) < 1e-5
        assert mmkdna.revert(plain) is plain
        assert [type(m) for m in plain.modules()] == [
            type(m) for m in getattr(torchvision.models, name)().modules()
        ]
        assert list(plain.modules()) == modules
        assert set(plain.state_dict()) == set(state)
        for key, value in plain.state_dict().items():
            assert torch.equal(value, state[key]), key

    def test_copies_and_files_are_the_same(self, plain, name):
        model = randomise(mmkdna.convert(plain, **NETWORKS[name]))
        expected = outputs(model)
        assert torch.equal(outputs(copy.deepcopy(model)), expected)
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        again = torch.load(file, weights_only=False)
        assert torch.equal(outputs(again), expected)
        fresh = getattr(torchvision.models, name)()
        fresh = mmkdna.convert(fresh, **NETWORKS[name])
        fresh.load_state_dict(model.state_dict())
        assert torch.equal(outputs(fresh), expected)


def test_children_start_with_their_parents_kernel_and_what_is_lost_is_said(
    log,
):
    model = convs()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    convert(model)
    assert families(model) == ['1.0 <- 1.1', '1.2 <- 1.3']
    errors = []
    for child, parent in ((0, 1), (2, 3)):
        kernel = model[1][child].kernel()
        assert torch.equal(kernel, before[f'1.{parent}.weight'])
        errors.append(off(kernel, before[f'1.{child}.weight']))
    low, high = (f'{error:.2f}' for error in sorted(errors))
    assert f'differs from their own by {low} to {high}' in log.text


def test_hooks_attributes_and_buffers_survive():
    model = convs()
    called = []
    model[1][0].register_forward_hook(lambda *_: called.append('after'))
    model[1][1].register_forward_pre_hook(lambda *_: called.append('before'))
    model[1][2].my_scale = 3.0
    model[1][3].register_buffer('mask', torch.ones(1))
    layers = list(model[1])
    assert families(convert(model))
    model(torch.ones(1, 3, 8, 8))
    assert called == ['after', 'before']
    mmkdna.revert(model)
    model(torch.ones(1, 3, 8, 8))
    assert called == ['after', 'before'] * 2
    assert all(a is b for a, b in zip(model[1], layers, strict=True))
    assert model[1][2].my_scale == 3
    assert '1.3.mask' in model.state_dict()


def test_only_ordinary_layers_are_touched():
    class Own(nn.Conv2d):
        pass

    tied, tied_too = nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3)
    tied_too.weight = tied.weight
    normed = nn.utils.parametrizations.spectral_norm(nn.Conv2d(8, 8, 3))
    model = nn.Sequential(
        *(nn.Conv2d(8, 8, 3), tied, Own(8, 8, 3), tied_too, normed),
        *(nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3, stride=2)),
    )
    convert(model, min_channels=1)
    assert families(model) == ['0 <- 5']
    assert [i for i, m in enumerate(model) if 'kernel_dna' in vars(m)] == [
        0,
        5,
    ]


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(min_chanels=1), 'did you mean min_channels'),
        (dict(min_channels=17), 'Nearest misses: .*16 channels'),
        (dict(families=[['1.0', '1.9']]), "'1.9' is unknown"),
        (dict(families=[['0', '1.1']]), 'only equal shapes can share'),
        (dict(family_size=[9]), 'asks for 9 layers'),
        (dict(reduction=17), 'reduction=17'),
        (dict(linear=1), 'expected True or False'),
        (dict(kernel_sizes=[5]), 'Nearest misses'),
    ],
)
def test_a_mistake_changes_nothing(settings, message):
    model = convs()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(BadInput, match=message):
        convert(model, **settings)
    assert as_it_was(model, before)


def test_a_kernel_of_nan_is_said(log):
    model = convs()
    with torch.no_grad():
        model[1][2].weight[0, 0, 0, 0] = torch.nan
    convert(model)
    assert families(model) == ['1.0 <- 1.1', '1.2 <- 1.3']
    assert 'to inf (relative)' in log.text
    assert model[1][2].kernel().isfinite().all()


def test_on_meta_there_is_nothing_to_lose(log):
    with torch.device('meta'):
        model = convert(convs())
    assert families(model) == ['1.0 <- 1.1', '1.2 <- 1.3']
    assert 'differs from their own' not in log.text


def test_once_more_is_another_part_or_nothing():
    model = convert(convs(), families=[['1.0', '1.1']])
    before = {k: v.clone() for k, v in model.state_dict().items()}
    convert(model, families=[['1.2', '1.3']])
    assert families(model) == ['1.0 <- 1.1', '1.2 <- 1.3']
    for key, value in model.state_dict().items():
        if key.startswith(('1.0', '1.1')):
            assert torch.equal(value, before[key]), key
    with pytest.raises(BadInput, match='no layers can share'):
        convert(model)
    with pytest.raises(BadInput, match='have their settings already'):
        convert(model[1])
    assert families(model) == ['1.0 <- 1.1', '1.2 <- 1.3']


def test_convolutions_of_a_subclass_are_named():
    class Padded(nn.Conv2d):
        pass

    model = nn.Sequential(Padded(32, 32, 1), Padded(32, 32, 1))
    with pytest.raises(BadInput, match='its convolutions are Padded, sub'):
        mmkdna.convert(model, kernel_sizes=(1,), min_channels=32)
    with pytest.raises(BadInput, match='it has no convolutions'):
        mmkdna.convert(nn.Sequential(nn.ReLU()))


def test_layers_whose_weight_another_module_reads_are_refused():
    layer = nn.TransformerEncoderLayer(32, 4, 32, batch_first=True)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(BadInput, match='TransformerEncoderLayer reads its'):
        mmkdna.convert(model, True, kernel_sizes=[1], min_channels=16)
    assert as_it_was(model, before)


def test_attention_of_torchvisions_swin_is_refused_by_name():
    model = torchvision.models.swin_t()
    names = [f'features.7.{i}.attn.proj' for i in (0, 1)]
    with pytest.raises(BadInput, match='WindowAttention reads its'):
        mmkdna.convert(model, True, families=[names], kernel_sizes=[1])
    assert not members(model)
    mmkdna.convert(model, True, kernel_sizes=[1])
    assert families(model)
    assert not any('attn' in text for text in families(model))


class TestRevert:
    def test_shared_modules_stay_shared(self):
        model = convs()
        model.append(model[1][0])
        model.append(model[1][3])
        convert(model)
        assert families(model) == ['1.0 <- 1.1', '1.2 <- 1.3']
        expected = outputs(model)
        mmkdna.revert(model)
        assert model[2] is model[1][0]
        assert model[3] is model[1][3]
        assert torch.equal(outputs(model), expected)

    def test_shared_biases_stay_shared(self):
        model = convs()
        model[1][1].bias = model[1][0].bias
        mmkdna.revert(convert(model))
        assert model[1][1].bias is model[1][0].bias

    @pytest.mark.parametrize('weight', [True, False])
    @pytest.mark.parametrize('bias', [True, False])
    def test_weight_and_bias_are_each_as_trained_as_before(self, weight, bias):
        model = convs()
        for layer in model[1][:2]:
            layer.weight.requires_grad = weight
            layer.bias.requires_grad = bias
        assert '1.0 <- 1.1' in families(convert(model))
        mmkdna.revert(model)
        for layer in model[1][:2]:
            assert layer.weight.requires_grad == weight
            assert layer.bias.requires_grad == bias

    def test_a_gate_that_has_learned_is_refused(self):
        model = randomise(convert(convs()))
        expected = outputs(model)
        with pytest.raises(BadInput, match=r'depend on .*: 1\.0, 1\.2\.'):
            mmkdna.revert(model)
        assert torch.equal(outputs(model), expected)

    def test_a_modulation_that_has_learned_is_kept(self):
        model = randomise(convert(convs()), gates=False)
        expected = outputs(model)
        kernel = model[1][0].kernel().detach()
        mmkdna.revert(model)
        assert torch.equal(model[1][0].weight, kernel)
        assert off(outputs(model), expected) < 1e-6

    @pytest.mark.parametrize('part', [0, 1])
    def test_a_part_of_a_family_is_refused(self, part):
        model = convert(convs())
        expected = outputs(model)
        with pytest.raises(BadInput, match='have members elsewhere'):
            mmkdna.revert(nn.Sequential(model[1][part]))
        assert torch.equal(outputs(model), expected)

    def test_a_child_that_has_lost_its_parent_is_refused(self):
        child = copy.deepcopy(convert(convs())[1][0])
        with pytest.raises(BadInput, match='lost their parent'):
            mmkdna.revert(child)


def test_a_parametrised_parent_is_not_reverted():
    stage = nn.Sequential(*(nn.Conv2d(8, 8, 3) for _ in range(2)))
    model = mmkdna.convert(stage, min_channels=8)
    nn.utils.parametrizations.weight_norm(model[1])
    x = torch.randn(1, 8, 9, 9)
    before = model(x)
    with pytest.raises(BadInput, match='these layers are parametrised: 1'):
        mmkdna.revert(model)
    assert torch.equal(model(x), before)


def test_a_reverted_model_has_its_keys_in_the_order_of_before():
    model = nn.Sequential(*(nn.Conv2d(8, 8, 3) for _ in range(2)))
    keys = list(model.state_dict())
    names = [name for name, _ in model.named_parameters()]
    mmkdna.revert(mmkdna.convert(model, min_channels=8))
    assert list(model.state_dict()) == keys
    assert [name for name, _ in model.named_parameters()] == names
