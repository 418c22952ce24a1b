"""A plain network's weights, and a family's own, into a model."""

import copy
import gc
import weakref
from collections import OrderedDict

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import load_checkpoint, save_checkpoint
from mmengine.runner.checkpoint import get_state_dict, load_state_dict
from safetensors.torch import load_file, save_file
from torch import nn
from weights_for import R18, R50, build, off, outputs, randomise

import mmkdna

ALL = '<All keys matched successfully>'
SHARED_HEADS = {
    'RetinaSepBNHead': dict(
        type='mmdet.RetinaSepBNHead',
        num_classes=3,
        num_ins=3,
        in_channels=16,
        stacked_convs=4,
        feat_channels=16,
        norm_cfg=dict(type='BN'),
        anchor_generator=dict(
            type='AnchorGenerator',
            octave_base_scale=4,
            scales_per_octave=1,
            ratios=[1.0],
            strides=[8, 16, 32],
        ),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
    ),
    'RTMDetSepBNHead': dict(
        type='mmdet.RTMDetSepBNHead',
        num_classes=3,
        in_channels=16,
        stacked_convs=2,
        feat_channels=16,
        share_conv=True,
        with_objectness=False,
        pred_kernel_size=1,
        anchor_generator=dict(
            type='MlvlPointGenerator', offset=0, strides=[8, 16, 32]
        ),
        bbox_coder=dict(type='DistancePointBBoxCoder'),
        norm_cfg=dict(type='BN'),
        act_cfg=dict(type='ReLU'),
    ),
}


def plain(cfg=R18):
    return randomise(MODELS.build(copy.deepcopy(cfg)))


def with_equal_kernels(model, twin):
    """A plain model's weights, those of each family's members made equal."""
    state = model.state_dict()
    for name, parent in children(twin).items():
        state[f'{name}.weight'].copy_(state[f'{parent}.weight'])
    return model


def children(model):
    return {
        name: family.parent.name
        for family in mmkdna.list_families(model)
        for name, _ in family.children
    }


NETWORKS = {
    'r18': (R18, {}),
    'r18, one family a stage': (R18, dict(family_size=None)),
    'r18, first': (R18, dict(parent='first', family_size=3)),
    'r50': (R50, {}),
    'convnext': (
        dict(
            type='mmpretrain.ConvNeXt',
            arch=dict(depths=[1, 1, 4, 3], channels=[8] * 4),
            linear_pw_conv=False,
            kernel_dna=dict(kernel_sizes=[1], min_channels=8),
        ),
        None,
    ),
}


@pytest.mark.parametrize('network', NETWORKS)
def test_plain_weights_of_equal_kernels_compute_the_same(network, log):
    cfg, conv_cfg = NETWORKS[network]
    if conv_cfg is None:
        twin = MODELS.build(copy.deepcopy(cfg))
        cfg = {k: v for k, v in cfg.items() if k != 'kernel_dna'}
    else:
        twin = build(cfg, **conv_cfg)
    randomise(twin)
    model = with_equal_kernels(plain(cfg), twin)
    log.clear()
    assert str(twin.load_state_dict(model.state_dict())) == ALL
    assert off(outputs(twin), outputs(model)) < 1e-5
    assert not log.text


def test_plain_weights_give_a_parent_its_kernel_and_start_its_children(log):
    model, twin = plain(), randomise(build(R18))
    twin.load_state_dict(model.state_dict())
    state = model.state_dict()
    assert children(twin)
    for name, parent in children(twin).items():
        layer = twin.get_submodule(name)
        assert torch.equal(layer.kernel(), state[f'{parent}.weight'])
        assert not layer.adapter.static.filter.any()
        assert layer.adapter.routing.is_open()
    # Kernels drawn independently are sqrt(2) apart.
    assert "2 children start with their parent's kernel" in log.text
    assert 'differs from their own by 1.4' in log.text
    others = [k for k in twin.state_dict() if k in state]
    assert len(others) > 100
    assert all(torch.equal(twin.state_dict()[k], state[k]) for k in others)


@pytest.mark.parametrize('prefix', ['', 'backbone.', 'module.backbone.'])
def test_plain_weights_load_from_a_file_under_any_prefix(prefix, tmp_path):
    model = with_equal_kernels(plain(), build(R18))
    path = str(tmp_path / 'plain.pth')
    state = {f'{prefix}{k}': v for k, v in model.state_dict().items()}
    torch.save(dict(state_dict=state), path)
    init_cfg = dict(type='Pretrained', checkpoint=path)
    if prefix:
        init_cfg['prefix'] = 'backbone.'
    twin = build(dict(R18, init_cfg=init_cfg))
    if prefix.startswith('module'):
        holder = nn.ModuleDict(dict(backbone=twin))
        load_checkpoint(holder, path, strict=True)
    else:
        twin.init_weights()
    assert off(outputs(twin), outputs(model)) < 1e-5


def test_own_checkpoints_load_as_they_are(log):
    one, other = randomise(build(R18)), build(R18)
    log.clear()
    load_state_dict(other, one.state_dict(), strict=True)
    assert torch.equal(outputs(one), outputs(other))
    assert not log.text


@pytest.mark.parametrize('name', SHARED_HEADS)
class TestLayersOfSeveralNames:
    """Heads whose levels share their convs, but not their norms."""

    @pytest.fixture(autouse=True)
    def _mmdet(self):
        init_default_scope('mmdet')

    def outputs(self, model):
        model.eval()
        x = [torch.ones(1, 16, s, s).cumsum(3) for s in (16, 8, 4)]
        with torch.no_grad():
            return torch.cat([t.flatten() for out in model(x) for t in out])

    def test_own_checkpoint_loads_strictly(self, name, tmp_path):
        one = randomise(build(SHARED_HEADS[name]))
        assert children(one)
        path = str(tmp_path / 'run.pth')
        save_checkpoint(dict(state_dict=get_state_dict(one)), path)
        other = build(SHARED_HEADS[name])
        load_checkpoint(other, path, strict=True)
        assert torch.equal(self.outputs(other), self.outputs(one))
        again = build(SHARED_HEADS[name])
        assert str(again.load_state_dict(one.state_dict())) == ALL
        assert torch.equal(self.outputs(again), self.outputs(one))
        # Without its metadata, too.
        again.load_state_dict(dict(other.state_dict()))
        assert torch.equal(self.outputs(again), self.outputs(one))

    def test_plain_weights_load(self, name, log):
        twin = randomise(build(SHARED_HEADS[name]))
        model = plain(SHARED_HEADS[name])
        assert str(twin.load_state_dict(model.state_dict())) == ALL
        assert 'children start with their parent' in log.text
        state = model.state_dict()
        for child, parent in children(twin).items():
            layer = twin.get_submodule(child)
            assert torch.equal(layer.kernel(), state[f'{parent}.weight'])
        with_equal_kernels(model, twin)
        twin.load_state_dict(model.state_dict())
        assert off(self.outputs(twin), self.outputs(model)) < 1e-5


class TestPartialLoads:
    """A load changes what it holds and nothing else, or the log says what."""

    def test_block_by_block_is_as_the_whole(self):
        model = plain()
        whole = build(R18)
        parts = copy.deepcopy(whole)
        whole.load_state_dict(model.state_dict())
        for name, part in model.named_modules():
            if type(part).__name__ == 'BasicBlock' or name in ('conv1', 'bn1'):
                parts.get_submodule(name).load_state_dict(part.state_dict())
        for key, value in whole.state_dict().items():
            assert torch.equal(parts.state_dict()[key], value), key

    def test_one_key_at_a_time_is_as_the_whole(self):
        model = plain()
        whole = build(R18)
        parts = copy.deepcopy(whole)
        whole.load_state_dict(model.state_dict())
        for key, value in model.state_dict().items():
            parts.load_state_dict({key: value}, strict=False)
        for key, value in whole.state_dict().items():
            assert torch.equal(parts.state_dict()[key], value), key

    @pytest.mark.parametrize('key', ['static.filter', 'routing.excite'])
    def test_an_entry_of_an_adapter_changes_it_alone(self, key, log):
        model = randomise(build(R18))
        before = copy.deepcopy(model.state_dict())
        key = f'layer4.1.conv1.adapter.{key}'
        log.clear()
        model.load_state_dict({key: before[key] + 1}, strict=False)
        for name, value in model.state_dict().items():
            assert torch.equal(value, before[name] + (name == key)), name
        assert not log.text

    @pytest.mark.parametrize('wrapped', [False, True])
    def test_a_parents_kernel_alone_says_who_changes(self, wrapped, log):
        model = randomise(build(R18))
        loaded = nn.ModuleDict(dict(model=model)) if wrapped else model
        prefix = 'model.' if wrapped else ''
        state = {f'{prefix}layer4.1.conv2.weight': torch.ones(32, 32, 3, 3)}
        log.clear()
        loaded.load_state_dict(state, strict=False)
        (record,) = log.records
        assert f'loading {prefix}layer4.1.conv2.weight' in record.message
        assert record.message.endswith('not have: layer4.1.conv1')

    def test_a_module_that_is_called_adapter_confuses_nobody(self, log):
        model = nn.ModuleDict(dict(vit_adapter=randomise(build(R18))))
        log.clear()
        model.load_state_dict(model.state_dict())
        assert not log.text

    def test_a_parents_block_alone_says_that_others_change(self, log):
        model = randomise(build(R50))
        log.clear()
        block = model.layer3[3]
        block.load_state_dict(block.state_dict())
        (record,) = log.records
        assert 'the kernels of 1 children' in record.message

    def test_a_childs_kernel_alone_starts_as_its_parent(self, log):
        model = randomise(build(R18))
        child, parent = model.layer4[1].conv1, model.layer4[1].conv2
        log.clear()
        state = {'conv1.weight': 2 * parent.weight.detach()}
        model.layer4[1].load_state_dict(state, strict=False)
        assert torch.equal(child.kernel(), parent.weight)
        assert 'differs from their own by 0.50' in log.text

    def test_a_member_by_itself_loads_a_plain_kernel(self, log):
        model = randomise(build(R18))
        child, parent = model.layer4[1].conv1, model.layer4[1].conv2
        kernel = torch.randn(32, 32, 3, 3)
        assert str(parent.load_state_dict({'weight': kernel})) == ALL
        assert str(child.load_state_dict({'weight': kernel})) == ALL
        assert torch.equal(child.kernel(), kernel)
        assert child.adapter.routing.is_open()
        assert 'differs from their own' not in log.text
        child.load_state_dict({'weight': 2 * kernel})
        assert torch.equal(child.kernel(), kernel)
        assert 'differs from their own by 0.50' in log.text


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_assigned_weights_are_all_of_the_checkpoints_kind(dtype):
    model = plain().to(dtype)
    twin = build(R18)
    with_equal_kernels(model, twin)
    assert str(twin.load_state_dict(model.state_dict(), assign=True)) == ALL
    assert {p.dtype for p in twin.parameters()} == {dtype}
    assert off(outputs(twin).float(), outputs(model).float()) < 0.02


def test_a_model_on_meta_is_all_there_after_a_strict_load():
    with torch.device('meta'):
        twin = build(R18)
    model = with_equal_kernels(plain(), twin)
    assert str(twin.load_state_dict(model.state_dict(), assign=True)) == ALL
    tensors = [*twin.parameters(), *twin.buffers()]
    assert not any(t.is_meta for t in tensors)
    assert all(t.isfinite().all() for t in tensors)
    assert off(outputs(twin), outputs(model)) < 1e-5


@pytest.mark.parametrize('member', [0, 1])
def test_a_wrong_shape_is_named(member):
    model, twin = plain(), build(R18)
    name = mmkdna.list_families(twin)[0].members[member].name
    state = model.state_dict()
    state[f'{name}.weight'] = state[f'{name}.weight'][:3]
    with pytest.raises(RuntimeError, match=f'size mismatch for {name}.weight'):
        twin.load_state_dict(state)


def test_the_callers_state_dict_is_as_it_was():
    state = plain().state_dict()
    before = {key: value.clone() for key, value in state.items()}
    build(R18).load_state_dict(state)
    assert list(state) == list(before)
    assert all(torch.equal(state[key], before[key]) for key in before)


def test_deep_copies_load_too():
    twin = copy.deepcopy(build(R18))
    model = with_equal_kernels(plain(), twin)
    twin.load_state_dict(model.state_dict())
    assert off(outputs(twin), outputs(model)) < 1e-5


def test_residuals_of_before_are_dropped_and_said(log):
    model = build(R18)
    state = model.state_dict()
    state['layer4.1.conv1.residual'] = torch.ones(32, 32, 3, 3)
    state['layer4.1.conv1.fade'] = torch.tensor(0.5)
    assert str(model.load_state_dict(state)) == ALL
    # Another's of that name is no such thing.
    model.layer1.register_buffer('fade', torch.zeros(()))
    model.load_state_dict({**state, 'layer1.fade': torch.ones(())})
    assert model.layer1.fade == 1
    assert 'residuals of an earlier version are dropped' in log.text


def test_safetensors_without_metadata_is_the_same(tmp_path):
    one, other = randomise(build(R18)), build(R18)
    save_file(one.state_dict(), tmp_path / 'own.safetensors')
    state = load_file(tmp_path / 'own.safetensors')
    assert str(other.load_state_dict(OrderedDict(state))) == ALL
    assert torch.equal(outputs(other), outputs(one))


def test_loading_forgets_the_model():
    model = build(R18)
    model.load_state_dict(model.state_dict())
    alive = weakref.ref(model)
    del model
    gc.collect()
    assert alive() is None
