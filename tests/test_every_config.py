"""Every config builds, forms families, trains a step; so does its twin."""

import copy
import functools
import json

import pytest
import torch
from helpers import ROOT, SIZE, small
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper

import mmkdna
from mmkdna.measure.batch import synthetic_batch
from mmkdna.measure.configs import (
    build_model,
    library,
    twin_of,
)

MODELS = {
    'atss_r50': 8,
    'cascade_maskrcnn_r50': 4,
    'deeplabv3plus_r50': 4,
    'dino_r50': 3,
    'fcos_r50': 9,
    'maskrcnn_swin_t': 13,
    'pspnet_r50': 4,
    'rtmdet_m': 8,
    'rtmdet_s': 3,
    'segformer_mit-b2': 4,
}
"""How many families each has."""


CONFIGS = ROOT / 'configs'
KDNA = sorted(CONFIGS.rglob('kdna_*.py'))
PLAIN = sorted(CONFIGS.rglob('plain/*.py'))
BEFORE = json.loads((ROOT / 'tests/families.json').read_text())
"""The families and parameters that checkpoints of the configs are of."""
NAMED = [
    'maskrcnn_r18',
    'maskrcnn_r50',
    'maskrcnn_r101',
    'maskrcnn_convnext_t',
    'maskrcnn_kdna-r50',
    'retinanet_r18',
    'retinanet_r50',
    'retinanet_convnext_t',
    'retinanet_kdna-r50',
    'upernet_r18',
    'upernet_r50',
    'upernet_convnext_t',
    'upernet_kdna-r50',
    'r18_in1k',
    'r50_in1k',
    'mobilenetv2_in1k',
    'mobilenetv2_x0.5_in1k',
    'convnext_t_in1k',
]


def name(path):
    return str(path.relative_to(CONFIGS).with_suffix(''))


@functools.cache
def read(path):
    """A config, read once; a test that changes it changes a copy."""
    return Config.fromfile(path)


def parent_of(path):
    """The plain config that a KernelDNA config inherits from."""
    tree = path.read_text().split("_base_ = '", 1)[1]
    return (path.parent / tree.split("'", 1)[0]).resolve()


def smaller(cfg, size):
    """The same model on small images with few proposals: quick steps."""
    cfg = copy.deepcopy(cfg)
    if library(cfg) == 'mmseg':
        cfg.model.data_preprocessor.size = size
    if 'rpn_proposal' in (cfg.model.get('train_cfg') or {}):
        cfg.model.train_cfg.rpn_proposal.update(nms_pre=50, max_per_img=20)
    return cfg


def test_the_configs_of_the_mission_are_there():
    assert {f'kdna_{one}' for one in NAMED} <= {path.stem for path in KDNA}


def test_every_plain_config_has_its_kernel_dna_config():
    assert {parent_of(path) for path in KDNA} == {p.resolve() for p in PLAIN}


def assert_as_before(config, model):
    found = list(map(str, mmkdna.list_families(model)))
    assert found == BEFORE[config]['families']
    parameters = sum(p.numel() for p in model.parameters())
    assert parameters == BEFORE[config]['parameters']


def test_an_adopted_config_has_the_families_of_before():
    others = set(BEFORE) - {name(path) for path in KDNA}
    assert others == {'digits/adopted_r18'}
    for config in others:
        model = build_model(Config.fromfile(CONFIGS / f'{config}.py'))
        assert_as_before(config, model)


# Those of MODELS train below, where it may take longer.
QUICK = [p for p in KDNA if p.stem.removeprefix('kdna_') not in MODELS]


@pytest.mark.parametrize('path', QUICK, ids=name)
def test_config_forms_the_families_of_before_and_trains_a_step(path):
    cfg = read(path)
    size = (64, 64) if library(cfg) != 'mmpretrain' else (32, 32)
    cfg = smaller(cfg, size)
    model = build_model(cfg)
    assert_as_before(name(path), model)

    batch = model.data_preprocessor(synthetic_batch(cfg, 2, size), True)
    loss, logged = model.parse_losses(model(**batch, mode='loss'))
    assert all(torch.isfinite(value).all() for value in logged.values())
    loss.backward()
    gradients = {
        key: parameter.grad
        for key, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    assert [key for key, grad in gradients.items() if grad is None] == []
    # What is not finite makes its sum so; a mask of each would cost more.
    assert all(grad.sum().isfinite() for grad in gradients.values())


def comparable(cfg):
    """What must be equal in twins: all but what makes one KernelDNA."""
    settings = cfg.to_dict()
    for key in ('custom_imports', 'checkpoint'):
        settings.pop(key, None)

    def walk(node):
        if isinstance(node, (list, tuple)):
            return [walk(item) for item in node]
        if not isinstance(node, dict):
            return node
        node = {key: walk(value) for key, value in node.items()}
        if 'type' in node:
            node['type'] = str(node['type']).removeprefix('mmpretrain.')
        return node

    return walk(settings)


@pytest.mark.parametrize('path', KDNA, ids=name)
def test_twins_differ_only_in_what_makes_one_kernel_dna(path):
    ours, plain = read(path), read(parent_of(path))
    text = repr(plain.to_dict())
    assert 'KernelDNA' not in text
    assert 'KDNA' not in text
    own_backbone = str(ours.model.backbone.type).startswith('KDNA')
    ours, plain = comparable(twin_of(ours)), comparable(plain)
    if own_backbone:
        # The paper's network starts from weights of its own.
        for settings in (ours, plain):
            settings['model']['backbone'].pop('init_cfg', None)
    assert ours == plain


def batch_for(cfg):
    """Noise and ground truth of the kinds that the config's data has."""
    batch = synthetic_batch(cfg, 2, SIZE)
    if library(cfg) == 'mmdet' and 'mask_head' not in cfg.model.get(
        'roi_head', {}
    ):
        for sample in batch['data_samples']:
            sample.gt_instances.pop('masks', None)
    return batch


def step(model, optimizer, batch):
    """One training step: its losses, and a gradient for each adapter."""
    data = model.data_preprocessor(copy.deepcopy(batch), True)
    with optimizer.optim_context(model):
        loss, logged = model.parse_losses(model(**data, mode='loss'))
    optimizer.backward(loss)
    gradients = {
        name: parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if '.adapter.' in name
    }
    optimizer.step()
    optimizer.zero_grad()
    return logged, gradients


@pytest.mark.slow
@pytest.mark.parametrize('name', MODELS)
def test_model_forms_its_families_and_trains_two_steps(name):
    cfg = small(Config.fromfile(CONFIGS / f'kdna_{name}.py'))
    model = build_model(cfg).train()
    families = mmkdna.list_families(model)
    assert len(families) == MODELS[name]
    expected = BEFORE[f'kdna_{name}']
    assert [str(family) for family in families] == expected['families']

    if name == 'dino_r50':
        # Until init_weights, which loads a backbone, it is any memory.
        torch.nn.init.normal_(model.level_embed)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    batch = batch_for(cfg)
    for _ in range(2):
        logged, gradients = step(model, optimizer, batch)
        assert all(value.isfinite().all() for value in logged.values())
        assert all(grad.isfinite().all() for grad in gradients.values())
        # Without trained weights some are too small for a float; not all.
        learning = {
            name.rpartition('.adapter.')[0]
            for name, grad in gradients.items()
            if grad.any()
        }
        assert learning == {
            child.name for family in families for child in family.children
        }
    assert all(p.isfinite().all() for p in model.parameters())
