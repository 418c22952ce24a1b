"""mmdet's own Mask R-CNN R-50-FPN, switched by the two conv_cfg entries."""

import copy
import pickle

import pytest
import torch
from helpers import families, perturb_adapters
from mmcv.cnn import fuse_conv_bn
from mmdet.testing import demo_mm_inputs
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.model import (
    ExponentialMovingAverage,
    convert_sync_batchnorm,
    revert_sync_batchnorm,
)
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from torch import nn

import mmkdna
from mmkdna.layers import KernelDNAConv2d

PROJECT = """
_base_ = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'
custom_imports = dict(imports=['mmkdna'])
model = dict(backbone=dict(conv_cfg=dict(type='KernelDNA')),
             neck=dict(conv_cfg=dict(type='KernelDNA')))
"""
FAMILIES = [
    'backbone.layer3.2.conv2 <- backbone.layer3.3.conv2',
    'backbone.layer3.4.conv2 <- backbone.layer3.5.conv2',
    'backbone.layer4.1.conv2 <- backbone.layer4.2.conv2',
    'neck.fpn_convs.0.conv <- neck.fpn_convs.1.conv',
    'neck.fpn_convs.2.conv <- neck.fpn_convs.3.conv',
]


@pytest.fixture(scope='module')
def project(tmp_path_factory):
    """The config of an existing project that adopts KernelDNA."""
    path = tmp_path_factory.mktemp('project') / 'config.py'
    path.write_text(PROJECT)
    return path


@pytest.fixture
def detector(project):
    """Build the detector, parts of its config overridden."""
    register_all_modules(init_default_scope=False)
    init_default_scope('mmdet')

    def detector(**options):
        cfg = Config.fromfile(project)
        cfg.merge_from_dict({f'model.{k}': v for k, v in options.items()})
        return MODELS.build(cfg.model)

    return detector


def batch(model, size=64, images=2):
    data = demo_mm_inputs(
        images,
        [[3, size, size]] * images,
        num_items=[2] * images,
        num_classes=80,
        with_mask=True,
    )
    return model.data_preprocessor(data, True)


def total_loss(model, data):
    torch.manual_seed(0)  # the RoI sampler
    losses = model(**data, mode='loss')
    return model.parse_losses(losses)[0]


def features(model, size=64):
    """What backbone and neck compute, as one list of maps."""
    model.eval()
    x = torch.linspace(-1, 1, 3 * size * size).view(1, 3, size, size)
    with torch.no_grad():
        return model.extract_feat(x)


def assert_same(ours, theirs, **tolerance):
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, **tolerance)


def test_two_lines_of_config_form_the_designed_families(detector):
    model = detector()
    assert families(model) == FAMILIES
    report = mmkdna.report(model)
    assert report.parameters == 39_943_773
    plain = detector(**{'backbone.conv_cfg': None, 'neck.conv_cfg': None})
    assert report.plain_parameters == 44_396_336
    assert sum(p.numel() for p in plain.parameters()) == 44_396_336


def test_loss_and_backward_give_every_parameter_a_finite_gradient(detector):
    model = detector()
    model.train()
    total_loss(model, batch(model)).backward()
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    assert any('.adapter.' in name for name, _ in trained)
    for name, parameter in trained:
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_training_works_at_batch_size_one(detector):
    model = detector()
    model.train()
    assert total_loss(model, batch(model, images=1)).isfinite()


def test_two_models_of_one_config_share_nothing(project):
    register_all_modules(init_default_scope=False)
    init_default_scope('mmdet')
    cfg = Config.fromfile(project).model
    one, two = MODELS.build(cfg), MODELS.build(cfg)

    def storages(model):
        return {
            t.untyped_storage().data_ptr()
            for t in model.state_dict(keep_vars=True).values()
        }

    assert storages(one).isdisjoint(storages(two))
    parts = set(one.modules())
    for family in mmkdna.list_families(two):
        assert all(conv not in parts for _, conv in family.members)


def test_every_kernel_is_there_once(detector):
    model = detector()
    state = model.state_dict()
    assert 'backbone.layer3.3.conv2.weight' in state
    assert 'backbone.layer3.2.conv2.weight' not in state
    assert 'backbone.layer3.2.conv2.adapter.static.spatial' in state
    tensors = [id(p) for p in model.state_dict(keep_vars=True).values()]
    assert len(tensors) == len(set(tensors))


def test_keys_but_the_childrens_are_those_of_the_plain_network(detector):
    ours = set(detector().state_dict())
    plain = set(
        detector(
            **{'backbone.conv_cfg': None, 'neck.conv_cfg': None}
        ).state_dict()
    )
    children = [family.split(' <-')[0] for family in FAMILIES]
    assert plain - ours == {f'{name}.weight' for name in children}
    assert all(
        key.startswith(tuple(f'{name}.adapter.' for name in children))
        for key in ours - plain
    )


@pytest.mark.parametrize('how', ['deepcopy', 'pickle', 'state dict', 'EMA'])
def test_copies_keep_outputs_and_families(detector, how):
    model = detector()
    perturb_adapters(model)
    if how == 'deepcopy':
        copied = copy.deepcopy(model)
    elif how == 'pickle':
        copied = pickle.loads(pickle.dumps(model))
    elif how == 'state dict':
        copied = detector()
        copied.load_state_dict(model.state_dict(), strict=True)
    else:
        copied = ExponentialMovingAverage(model).module
    before = features(model)
    assert_same(features(copied), before)
    assert families(copied) == FAMILIES
    own = set(copied.modules())
    for family in mmkdna.list_families(copied):
        assert all(conv in own for _, conv in family.members)
    with torch.no_grad():  # the copy is independent
        for parameter in copied.parameters():
            parameter.zero_()
    assert_same(features(model), before)


def test_half_and_back_keep_families(detector):
    model = detector()
    perturb_adapters(model)
    before = features(model)
    model.half()
    assert all(
        conv.kernel().dtype is torch.float16
        for conv in model.modules()
        if isinstance(conv, KernelDNAConv2d)
    )
    assert families(model) == FAMILIES
    x = torch.linspace(-1, 1, 3 * 64 * 64).view(1, 3, 64, 64).half()
    with torch.no_grad():
        halves = model.extract_feat(x)
    assert_same([h.float() for h in halves], before, rtol=0.05, atol=0.05)
    assert_same(features(model.float()), before, rtol=0.05, atol=0.05)


def test_start_computes_what_the_plain_network_does(detector):
    """Where each child's plain kernel equals its parent's."""
    ours = detector()
    plain = detector(**{'backbone.conv_cfg': None, 'neck.conv_cfg': None})
    state = ours.state_dict()
    for family in mmkdna.list_families(ours):
        for name, _ in family.children:
            state[f'{name}.weight'] = family.parent.module.weight
    state = {k: v for k, v in state.items() if '.adapter.' not in k}
    plain.load_state_dict(state, strict=True)
    assert_same(features(ours), features(plain), rtol=1e-5, atol=1e-6)


def test_init_weights_starts_adapters_and_kernels(detector):
    model = detector(**{'backbone.init_cfg': None})
    model.init_weights()
    child = model.backbone.layer3[2].conv2
    assert not child.adapter.static.filter.any()
    x = torch.randn(2, 256, 4, 4)
    assert torch.equal(
        child.adapter.routing(x.mean((2, 3))), torch.ones(2, 256)
    )
    assert child.parent.weight.std().item() == pytest.approx(
        (2 / (256 * 9)) ** 0.5, rel=0.02
    )


def test_optimizer_with_paramwise_cfg_has_each_parameter_once(detector):
    model = detector()
    wrapper = build_optim_wrapper(
        model,
        dict(
            type='OptimWrapper',
            optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.1),
            paramwise_cfg=dict(
                norm_decay_mult=0.0,
                custom_keys={'adapter': dict(lr_mult=10.0)},
            ),
        ),
    )
    groups = wrapper.optimizer.param_groups
    seen = [id(p) for group in groups for p in group['params']]
    assert len(seen) == len(set(seen))
    trained = [p for p in model.parameters() if p.requires_grad]
    assert {id(p) for p in trained} <= set(seen)
    rates = {id(p): g['lr'] for g in groups for p in g['params']}
    child = model.backbone.layer4[1].conv2
    assert rates[id(child.adapter.static.filter)] == pytest.approx(1e-3)
    assert rates[id(child.parent.weight)] == pytest.approx(1e-4)


def test_fuse_conv_bn_keeps_the_outputs(detector):
    model = detector()
    perturb_adapters(model)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.1, 0.1)
                module.running_var.uniform_(0.5, 2.0)
                module.weight.uniform_(0.5, 1.5)
    before = features(model)
    fused = fuse_conv_bn(model)
    assert isinstance(fused.backbone.bn1, nn.Identity)
    assert_same(features(fused), before, rtol=1e-4, atol=1e-4)
    assert families(fused) == FAMILIES


def test_sync_batchnorm_and_back_keeps_families(detector):
    routed = dict(type='KernelDNA', norm='BN')
    model = detector(**{'backbone.conv_cfg': routed})
    perturb_adapters(model)
    before = features(model)
    synced = convert_sync_batchnorm(model)
    norm = synced.backbone.layer3[2].conv2.adapter.routing.norm
    assert isinstance(norm, nn.SyncBatchNorm)
    assert families(synced) == FAMILIES
    reverted = revert_sync_batchnorm(synced)
    assert families(reverted) == FAMILIES
    assert_same(features(reverted), before)


def test_checkpointing_gives_the_same_gradients(detector):
    plain = detector()
    perturb_adapters(plain)
    checkpointed = detector(**{'backbone.with_cp': True})
    checkpointed.load_state_dict(plain.state_dict())
    gradients = []
    for model in (plain, checkpointed):
        model.train()
        total_loss(model, batch(model)).backward()
        gradients.append(
            {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
        )
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], msg=name)


def test_frozen_stages_freeze_their_adapters(detector):
    model = detector(**{'backbone.frozen_stages': 3})
    model.train()
    for name, parameter in model.backbone.layer3.named_parameters():
        assert not parameter.requires_grad, name
    child = model.backbone.layer4[1].conv2
    assert all(p.requires_grad for p in child.parameters())
    total_loss(model, batch(model)).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name


@pytest.mark.parametrize('norm', ['BN', 'LN'])
def test_norm_eval_holds_for_the_routing_too(detector, norm):
    model = detector(**{'backbone.conv_cfg.norm': norm})
    model.train()
    norms = [
        m
        for m in model.backbone.modules()
        if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))
    ]
    assert norms
    assert not any(m.training for m in norms)
    assert total_loss(model, batch(model, images=1)).isfinite()


def test_autocast_trains_in_bfloat16(detector):
    """Backbone and neck; mmcv's NMS knows no bfloat16 on a CPU."""
    model = detector()
    model.train()
    seen = []
    child = model.backbone.layer3[2].conv2
    child.register_forward_hook(lambda m, i, o: seen.append(o.dtype))
    with torch.autocast('cpu', torch.bfloat16):
        maps = model.extract_feat(batch(model)['inputs'])
        loss = sum(m.float().square().mean() for m in maps)
    loss.backward()
    assert seen == [torch.bfloat16]
    for part in (model.backbone, model.neck):
        for name, parameter in part.named_parameters():
            if parameter.requires_grad:
                assert parameter.grad.isfinite().all(), name
                assert parameter.grad.dtype is torch.float32, name
