"""Plain weights into KernelDNA models: fit, align, load, fade, convert."""

import copy
import itertools

import pytest
import torch
import torchvision
from conftest import perturb_adapters
from mmengine.registry import MODELS
from mmengine.runner import load_checkpoint
from mmengine.runner.checkpoint import load_state_dict
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

import mmkdna
from mmkdna.adoption import fit_modulation, residual_names
from mmkdna.adoption.align import Width, align, hidden_widths
from mmkdna.errors import BadInput
from mmkdna.layers import KernelDNALayer, StaticModulation

RESNET18 = dict(
    type='mmpretrain.ResNet', depth=18, base_channels=8, stem_channels=8
)
RESNET50 = dict(
    type='mmdet.ResNet', depth=50, base_channels=8, stem_channels=8
)
CONVNEXT = dict(
    type='mmpretrain.ConvNeXt',
    arch=dict(depths=[1, 1, 4, 3], channels=[8] * 4),
)
SHARED = dict(type='KernelDNA', min_channels=8)


def randomise(model):
    """Weights and statistics as of a network that was trained."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
        for name in ('gamma', 'layer_scale'):
            if isinstance(getattr(module, name, None), nn.Parameter):
                nn.init.uniform_(getattr(module, name), 0.5, 1.5)
    return model


def plain_and_twin(cfg, **conv_cfg):
    """A network with weights of its own, and its KernelDNA twin."""
    plain = randomise(MODELS.build(cfg))
    if 'ConvNeXt' in cfg['type']:
        cfg = {**cfg, 'type': 'KDNASmallConvNeXt'}
    twin = MODELS.build({**cfg, 'conv_cfg': {**SHARED, **conv_cfg}})
    return plain, twin


def outputs(model, size=64):
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(2, 3, size, size, generator=generator)
    model.eval()
    with torch.no_grad():
        out = model(x)
    return out[-1] if isinstance(out, (tuple, list)) else out


def distance(a, b):
    return float((a - b).norm() / b.norm())


@pytest.fixture(autouse=True, scope='module')
def _small_convnext():
    """KDNAConvNeXt takes the published archs; here is a narrow one."""
    from mmkdna.backbones import KDNAConvNeXt, convnext

    class KDNASmallConvNeXt(KDNAConvNeXt):
        pass

    MODELS.register_module(module=KDNASmallConvNeXt, force=True)
    checked = convnext.one_of
    convnext.one_of = lambda *args: None
    yield
    convnext.one_of = checked


class TestFit:
    @pytest.mark.parametrize(
        'shape', [(6, 4, 3, 3), (6, 4, 1, 1), (6, 4), (6, 1, 5, 3)]
    )
    def test_finds_a_modulation_that_was_applied(self, shape):
        parent = torch.randn(shape)
        static = StaticModulation(shape)
        for parameter in static.parameters():
            nn.init.normal_(parameter, std=0.3)
        kernel = static(parent).detach()
        fit = fit_modulation(kernel, parent)
        assert fit.error < 1e-5
        torch.testing.assert_close(fit.kernel(parent), kernel)
        assert fit.filter.shape == static.filter.shape
        if static.spatial is not None:
            assert fit.spatial.shape == static.spatial.shape

    def test_is_a_least_squares_solution(self):
        kernel, parent = torch.randn(2, 5, 4, 3, 3).double()
        fit = fit_modulation(kernel, parent)
        halves = [
            half.clone().requires_grad_() for half in (fit.filter, fit.spatial)
        ]
        fitted = parent * (1 + halves[0]) * (1 + halves[1])
        loss = (kernel - fitted).square().sum()
        assert float(loss.sqrt() / kernel.norm()) == pytest.approx(fit.error)
        loss.backward()
        # A minimum along either half; the alternation has converged.
        assert all(half.grad.abs().max() < 1e-2 for half in halves)
        for scale in (0.99, 1.01):
            worse = kernel - parent * (1 + fit.filter) * scale * (
                1 + fit.spatial
            )
            assert worse.norm() / kernel.norm() > fit.error

    def test_nothing_to_explain(self):
        zero = torch.zeros(3, 2, 3, 3)
        assert fit_modulation(zero, torch.randn(3, 2, 3, 3)).error == 0
        fit = fit_modulation(torch.randn(3, 2, 3, 3), zero)
        assert fit.error == 1
        assert fit.kernel(zero).isfinite().all()


class TestAlign:
    @pytest.mark.parametrize('cfg', [RESNET18, RESNET50, CONVNEXT])
    def test_permuting_every_width_computes_the_same(self, cfg):
        model = randomise(MODELS.build(cfg))
        before = outputs(model)
        state = model.state_dict()
        widths = [w for block in hidden_widths(model).values() for w in block]
        assert widths
        for width in widths:
            first = f'{width.writers[0]}.weight'
            order = torch.randperm(len(state[first]))
            for name in width.layers:
                for key in [k for k in state if k.startswith(f'{name}.')]:
                    reads = name in width.readers
                    if reads and state[key].dim() > 1:
                        state[key] = state[key][:, order]
                    elif not reads and state[key].dim() > 0:
                        state[key] = state[key][order]
        assert not torch.equal(model.state_dict()[first], state[first])
        model.load_state_dict(state)
        assert distance(outputs(model), before) < 1e-5

    @pytest.mark.parametrize('side', [0, 1])
    def test_finds_an_order_that_was_lost(self, side):
        """Two kernels alike but for the order of channels on one side."""
        state = MODELS.build(RESNET50).state_dict()
        child, parent = 'layer3.1.conv2', 'layer3.2.conv2'
        kernel = state[f'{parent}.weight']
        order = torch.randperm(len(kernel))
        state[f'{child}.weight'] = kernel.index_select(side, order)
        outer, inner = (
            Width(('layer3.1.conv2', 'layer3.1.bn2'), ('layer3.1.conv3',)),
            Width(('layer3.1.conv1', 'layer3.1.bn1'), ('layer3.1.conv2',)),
        )
        reader = state['layer3.1.conv3.weight']
        align(state, [(child, parent)], [inner if side else outer])
        torch.testing.assert_close(state[f'{child}.weight'], kernel)
        if side == 0:
            back = torch.empty_like(order)
            back[order] = torch.arange(len(order))
            assert torch.equal(state['layer3.1.conv3.weight'], reader[:, back])

    @pytest.mark.parametrize(
        'change',
        [
            dict(type='mmdet.ResNeXt', groups=2, base_width=4),
            dict(norm_cfg=dict(type='GN', num_groups=2)),
            dict(
                dcn=dict(type='DCNv2', deform_groups=1),
                stage_with_dcn=(False, False, True, True),
            ),
        ],
    )
    def test_leaves_alone_what_it_does_not_know(self, change):
        model = MODELS.build({**RESNET50, **change})
        known = hidden_widths(model)
        for block in known.values():
            for width in block:
                for name in width.layers:
                    assert type(model.get_submodule(name)) in (
                        nn.Conv2d,
                        nn.BatchNorm2d,
                    )
        assert not [name for name in known if 'layer4' in name] or (
            'dcn' in change
        )


NETWORKS = {
    'r18': (RESNET18, {}),
    'r18 of threes': (RESNET18, dict(family_size=3)),
    'r50': (RESNET50, {}),
    'r50 norm_eval': ({**RESNET50, 'norm_eval': True}, {}),
    'convnext': (CONVNEXT, {}),
    'convnext of 1x1 convs': ({**CONVNEXT, 'linear_pw_conv': False}, {}),
    'first': (RESNET18, dict(parent='first')),
}


class TestLoading:
    @pytest.mark.parametrize('aligned', [True, False])
    @pytest.mark.parametrize('network', NETWORKS)
    def test_starts_as_the_plain_network(self, network, aligned):
        cfg, conv_cfg = NETWORKS[network]
        plain, twin = plain_and_twin(cfg, align=aligned, **conv_cfg)
        perturb_adapters(twin)
        mmkdna.keep_residuals(twin)
        assert str(twin.load_state_dict(plain.state_dict())) == (
            '<All keys matched successfully>'
        )
        assert len(residual_names(twin)) > 1
        assert distance(outputs(twin), outputs(plain)) < 1e-5

    @pytest.mark.parametrize('cfg', [RESNET18, RESNET50, CONVNEXT])
    def test_alignment_lowers_the_error(self, cfg):
        errors = []
        for aligned in (False, True):
            torch.manual_seed(0)
            plain, twin = plain_and_twin(cfg, align=aligned)
            twin.load_state_dict(plain.state_dict())
            rows = mmkdna.report(twin).rows
            fits = [r.fit_error for r in rows if r.role == 'child']
            errors.append(sum(fits) / len(fits))
        assert 0 < errors[1] < errors[0] <= 1

    def test_without_residuals_starts_from_the_fit(self, log):
        plain, twin = plain_and_twin(RESNET18)
        twin.load_state_dict(plain.state_dict())
        assert residual_names(twin) == []
        assert 'KernelFadeHook' in log.text
        for family in mmkdna.list_families(twin):
            for name, child in family.children:
                fit = child.kernel() - child.parent.weight * (
                    1 + child.adapter.static.filter
                ) * (1 + child.adapter.static.spatial)
                assert fit.abs().max() < 1e-6, name
                assert child.fit_error > 0

    @pytest.mark.parametrize('prefix', ['', 'backbone.', 'module.backbone.'])
    def test_from_a_file_under_any_prefix(self, prefix, tmp_path):
        plain, _ = plain_and_twin(RESNET18)
        path = str(tmp_path / 'plain.pth')
        state = {f'{prefix}{k}': v for k, v in plain.state_dict().items()}
        torch.save(dict(state_dict=state), path)
        init_cfg = dict(type='Pretrained', checkpoint=path)
        if prefix:
            init_cfg['prefix'] = 'backbone.'
        twin = MODELS.build(
            {**RESNET18, 'conv_cfg': SHARED, 'init_cfg': init_cfg}
        )
        mmkdna.keep_residuals(twin)
        if prefix.startswith('module'):
            holder = nn.ModuleDict(dict(backbone=twin))
            load_checkpoint(holder, path, strict=True)
        else:
            twin.init_weights()
        assert distance(outputs(twin), outputs(plain)) < 1e-5

    def test_own_checkpoints_load_as_they_are(self, tmp_path):
        _, one = plain_and_twin(RESNET18)
        _, other = plain_and_twin(RESNET18)
        perturb_adapters(one)
        mmkdna.keep_residuals(other)
        load_state_dict(other, one.state_dict(), strict=True)
        assert residual_names(other) == []
        assert torch.equal(outputs(one), outputs(other))

    def test_half_faded_checkpoint(self, tmp_path):
        plain, one = plain_and_twin(RESNET18)
        _, other = plain_and_twin(RESNET18)
        mmkdna.keep_residuals(one)
        one.load_state_dict(plain.state_dict())
        mmkdna.set_fade(one, 0.25)
        path = tmp_path / 'half.pth'
        torch.save(one.state_dict(), path)
        saved = torch.load(path, weights_only=True)
        assert {float(v) for k, v in saved.items() if '.fade' in k} == {0.25}
        other.load_state_dict(saved)
        assert torch.equal(outputs(one), outputs(other))
        assert residual_names(other) == residual_names(one)

    @pytest.mark.parametrize('member', [0, 1])
    def test_wrong_shape_is_named(self, member):
        plain, twin = plain_and_twin(RESNET18)
        name = mmkdna.list_families(twin)[0].members[member].name
        state = plain.state_dict()
        state[f'{name}.weight'] = state[f'{name}.weight'][:3]
        with pytest.raises(RuntimeError, match='size mismatch') as error:
            twin.load_state_dict(state)
        assert name in str(error.value)

    @pytest.mark.parametrize('member', [0, 1])
    def test_a_kernel_that_is_not_finite_is_named(self, member):
        plain, twin = plain_and_twin(RESNET18)
        name = mmkdna.list_families(twin)[0].members[member].name
        state = plain.state_dict()
        state[f'{name}.weight'][0] = torch.nan
        with pytest.raises(BadInput, match=f'{name}.*NaN'):
            twin.load_state_dict(state)

    def test_a_part_without_its_parent(self):
        """Fitted to the parent that the model has by then."""
        plain, twin = plain_and_twin(RESNET18, align=False)
        twin.load_state_dict(plain.state_dict())
        mmkdna.keep_residuals(twin)
        block = plain.layer4[1].conv1
        state = {'conv1.weight': block.weight.detach() * 2}
        twin.layer4[1].load_state_dict(state, strict=False)
        kernel = twin.layer4[1].conv1.kernel()
        torch.testing.assert_close(kernel, 2 * block.weight)

    def test_deep_copies_load_too(self):
        plain, twin = plain_and_twin(RESNET18)
        mmkdna.keep_residuals(twin)
        twin = copy.deepcopy(twin)
        twin.load_state_dict(plain.state_dict())
        assert distance(outputs(twin), outputs(plain)) < 1e-5


class TestOtherPlans:
    """A KernelDNA checkpoint of other families than the model's."""

    def build(self, **conv_cfg):
        return plain_and_twin(RESNET18, **conv_cfg)[1]

    def test_other_parents_are_mapped(self):
        last, first = self.build(), self.build(parent='first', family_size=3)
        # Gates open: a parent here may be a child there.
        for family in mmkdna.list_families(last):
            for _, child in family.children:
                nn.init.normal_(child.adapter.static.filter, std=0.2)
        mmkdna.keep_residuals(first)
        result = first.load_state_dict(last.state_dict())
        assert not result.missing_keys
        assert distance(outputs(first), outputs(last)) < 1e-5

    def test_gates_of_children_are_kept(self):
        child, here, there = (
            f'layer4.{n}' for n in ('1.conv1', '1.conv2', '0.conv2')
        )
        one = self.build(families=[[child, here]])
        other = self.build(families=[[child, there]])
        perturb_adapters(one)
        mmkdna.keep_residuals(other)
        other.load_state_dict(one.state_dict())
        assert distance(outputs(other), outputs(one)) < 1e-5

    def test_gates_without_a_place_are_refused(self):
        one, other = self.build(), self.build(parent='first')
        perturb_adapters(one)
        before = copy.deepcopy(other.state_dict())
        with pytest.raises(BadInput) as error:
            other.load_state_dict(one.state_dict())
        text = str(error.value)
        assert 'in the checkpoint' in text
        assert 'in this model' in text
        assert 'layer4.1.conv1  child of layer4.1.conv2' in text
        for key, value in other.state_dict().items():
            assert torch.equal(value, before[key]), key

    def test_a_model_without_families_refuses_too(self):
        one = self.build()
        perturb_adapters(one)
        with pytest.raises(BadInput, match='other families'):
            self.build(family_size=9).load_state_dict(one.state_dict())


class TestFade:
    def faded(self):
        plain, twin = plain_and_twin(RESNET18)
        mmkdna.keep_residuals(twin)
        twin.load_state_dict(plain.state_dict())
        return twin

    def test_moves_the_kernels_to_the_familys(self):
        twin = self.faded()
        layer = twin.get_submodule(residual_names(twin)[0])
        own, residual = layer.kernel(), layer.residual.clone()
        mmkdna.set_fade(twin, 0.75)
        torch.testing.assert_close(layer.kernel(), own - 0.75 * residual)
        mmkdna.set_fade(twin, 1)
        torch.testing.assert_close(layer.kernel(), own - residual)
        assert residual_names(twin) == []
        assert not [k for k in twin.state_dict() if 'residual' in k]

    def test_residuals_are_no_parameters(self):
        twin = self.faded()
        _, pure = plain_and_twin(RESNET18)
        assert [n for n, _ in twin.named_parameters()] == [
            n for n, _ in pure.named_parameters()
        ]

    @pytest.mark.parametrize('t', [-0.1, 1.1, float('nan')])
    def test_out_of_range(self, t):
        with pytest.raises(BadInput, match='0 to 1'):
            mmkdna.set_fade(self.faded(), t)

    def test_half_precision_and_autocast(self):
        twin = self.faded()
        mmkdna.set_fade(twin, 0.5)
        x = torch.randn(2, 3, 64, 64)
        full = twin(x)[-1]
        with torch.autocast('cpu', torch.bfloat16):
            mixed = twin(x)[-1]
        mixed.float().sum().backward()
        assert distance(mixed.float(), full) < 0.05
        assert all(p.grad.isfinite().all() for p in twin.parameters())
        half = copy.deepcopy(twin).to(torch.bfloat16)
        assert half(x.bfloat16())[-1].dtype == torch.bfloat16


class TestConvert:
    @pytest.mark.parametrize(
        ('name', 'conv_cfg'),
        [
            ('resnet18', {}),
            ('resnet50', {}),
            ('mobilenet_v2', dict(kernel_sizes=(1,), min_channels=32)),
            ('convnext_tiny', dict(linear=True, kernel_sizes=(1,))),
        ],
    )
    def test_and_revert_compute_what_torchvision_does(self, name, conv_cfg):
        model = randomise(getattr(torchvision.models, name)())
        plain = outputs(model)
        keys = list(model.state_dict())
        assert mmkdna.convert(model, **conv_cfg) is model
        assert mmkdna.list_families(model)
        assert distance(outputs(model), plain) < 1e-5
        assert mmkdna.revert(model) is model
        assert list(model.state_dict()) == keys
        assert not [
            m for m in model.modules() if isinstance(m, KernelDNALayer)
        ]
        assert distance(outputs(model), plain) < 1e-5

    def test_trained_on_the_model_is_pure(self):
        model = torchvision.models.resnet18()
        before = sum(p.numel() for p in model.parameters())
        mmkdna.convert(model)
        optimizer = torch.optim.SGD(model.parameters(), 0.01)
        for t in (0.0, 0.5, 1.0):
            mmkdna.set_fade(model, t)
            model(torch.randn(2, 3, 64, 64)).sum().backward()
            optimizer.step()
        assert residual_names(model) == []
        assert sum(p.numel() for p in model.parameters()) < before

    def test_only_ordinary_layers_are_touched(self):
        class Own(nn.Conv2d):
            pass

        tied = nn.Conv2d(8, 8, 3)
        tied_too = nn.Conv2d(8, 8, 3)
        tied_too.weight = tied.weight
        normed = nn.utils.parametrizations.spectral_norm(nn.Conv2d(8, 8, 3))
        model = nn.Sequential(
            nn.Conv2d(8, 8, 3), tied, Own(8, 8, 3), tied_too, normed,
            nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3, stride=2),
        )  # fmt: skip
        kept = {i: model[i] for i in (1, 2, 3, 4, 6)}
        mmkdna.convert(model, min_channels=1)
        assert [str(f) for f in mmkdna.list_families(model)] == ['0 <- 5']
        assert all(model[i] is layer for i, layer in kept.items())

    @pytest.mark.parametrize('min_channels', [1, 9])
    def test_nothing_eligible(self, min_channels):
        model = nn.Sequential(nn.Conv2d(8, 8, 3), nn.ReLU())
        layers = list(model)
        with pytest.raises(BadInput, match='Nearest misses: 0: '):
            mmkdna.convert(model, min_channels=min_channels)
        assert all(a is b for a, b in zip(model, layers, strict=True))

    def test_unknown_argument(self):
        with pytest.raises(ValueError, match='did you mean min_channels'):
            mmkdna.convert(nn.Sequential(), min_chanels=1)

    def test_revert_refuses_gates(self):
        model = mmkdna.convert(torchvision.models.resnet18())
        perturb_adapters(model)
        before = outputs(model)
        with pytest.raises(BadInput, match=r'layer3\.1\.conv1, layer4'):
            mmkdna.revert(model)
        assert torch.equal(outputs(model), before)


def test_pairs_are_tried_in_turn():
    """A width of a block whose convs are child and parent of each other."""
    model = MODELS.build(RESNET18)
    state = model.state_dict()
    pairs = [('layer4.1.conv1', 'layer4.1.conv2')]
    widths = list(itertools.chain(*hidden_widths(model).values()))
    error = fit_modulation(
        *(state[f'{name}.weight'] for name in pairs[0])
    ).error
    align(state, pairs, widths)
    assert (
        fit_modulation(*(state[f'{n}.weight'] for n in pairs[0])).error
        <= error
    )
