"""The models that people start from: their families, two training steps."""

import copy
import json
from pathlib import Path

import pytest
import yaml
from helpers import ROOT
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper

import mmkdna
from mmkdna.errors import BadInput
from mmkdna.measure.batch import synthetic_batch
from mmkdna.measure.complexity import multiply_adds
from mmkdna.measure.configs import build_model, library

CONFIGS = ROOT / 'configs'
FAMILIES = json.loads((ROOT / 'tests/families.json').read_text())
MODELS = {
    'atss_r50': 8,
    'cascade_maskrcnn_r50': 5,
    'deeplabv3plus_r50': 4,
    'dino_r50': 3,
    'fcos_r50': 9,
    'maskrcnn_swin_t': 14,
    'pspnet_r50': 4,
    'rtmdet_m': 8,
    'rtmdet_s': 3,
    'segformer_mit-b2': 4,
}
"""How many families each has."""
SIZE = (64, 64)


def small(cfg):
    """The same model with little to do on small images."""
    cfg = copy.deepcopy(cfg)
    if library(cfg) == 'mmseg':
        cfg.model.data_preprocessor.size = SIZE
    if 'rpn_proposal' in (cfg.model.get('train_cfg') or {}):
        cfg.model.train_cfg.rpn_proposal.update(nms_pre=50, max_per_img=20)
        # Most anchors are larger than the image.
        cfg.model.train_cfg.rpn.allowed_border = -1
    if 'drop_path_rate' in cfg.model.backbone:
        # It may drop a block for the whole batch.
        cfg.model.backbone.drop_path_rate = 0.0
    if 'num_queries' in cfg.model:
        # Not more than a small image has places.
        cfg.model.num_queries = 20
    return cfg


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
    expected = FAMILIES[f'kdna_{name}']
    assert [str(family) for family in families] == expected['families']

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


def entries():
    """The recipes of the metafile, by the name of their config."""
    text = (CONFIGS / 'metafile.yml').read_text()
    return {
        Path(entry['Config']).stem: entry['Metadata']
        for entry in yaml.safe_load(text)['Models']
        if 'Derived From' not in entry['Metadata']
    }


def test_the_metafile_has_each_config_and_its_parameters():
    stems = {path.stem for path in CONFIGS.glob('kdna_*.py')}
    found = {name: data['Parameters'] for name, data in entries().items()}
    assert found == {name: FAMILIES[name]['parameters'] for name in stems}


def test_the_metafile_says_at_which_input_it_counts():
    assert all(
        data['Multiply-adds'] > 0 and 'x' in data['Input Size']
        for data in entries().values()
    )


def test_the_readme_has_each_config():
    text = (CONFIGS / 'README.md').read_text()
    for path in CONFIGS.glob('**/kdna_*.py'):
        assert f']({path.relative_to(CONFIGS)})' in text, path


def test_the_collection_names_a_file_that_is_there():
    for path in CONFIGS.rglob('metafile.yml'):
        (collection,) = yaml.safe_load(path.read_text())['Collections']
        assert (ROOT / collection['README']).is_file()


def test_what_cannot_be_counted_says_so():
    cfg = Config.fromfile(CONFIGS / 'kdna_dino_r50.py')
    with pytest.raises(BadInput, match='DINO cannot be counted'):
        multiply_adds(build_model(small(cfg)), (3, *SIZE))
