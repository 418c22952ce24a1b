"""Who is whose parent, through copies, pickles and lost relatives."""

import copy
import gc
import io
import pickle
import weakref

import pytest
import torch
from helpers import perturb_adapters
from mmengine.registry import MODELS
from pairs import family, pair
from torch import nn

import mmkdna

LOST = 'has lost its parent'


def resnet(**kwargs):
    model = MODELS.build(
        dict(
            type='mmdet.ResNet',
            depth=18,
            base_channels=16,
            conv_cfg=dict(type='KernelDNA', min_channels=32),
            **kwargs,
        )
    )
    perturb_adapters(model)
    model.eval()
    return model


IMAGES = torch.randn(2, 3, 32, 32)


def torch_save(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def by_pickle(model):
    return pickle.loads(pickle.dumps(model))


@pytest.mark.parametrize('duplicate', [copy.deepcopy, by_pickle, torch_save])
def test_a_copy_of_a_model_has_families_of_its_own(duplicate):
    model = resnet()
    copied = duplicate(model)
    names = [str(family) for family in mmkdna.list_families(model)]
    assert len(names) == 3
    assert [str(f) for f in mmkdna.list_families(copied)] == names
    assert list(copied.state_dict()) == list(model.state_dict())
    with torch.no_grad():
        expected = model(IMAGES)[-1]
        assert copied(IMAGES)[-1].equal(expected)
        for parameter in model.parameters():
            parameter.zero_()
        assert copied(IMAGES)[-1].equal(expected)
        for ours in mmkdna.list_families(copied):
            ours.parent.module.weight.zero_()
            for _, child in ours.children:
                assert not child.kernel().any()


@pytest.mark.parametrize('duplicate', [copy.deepcopy, by_pickle, torch_save])
def test_a_block_copied_without_its_parent_says_so(duplicate, build):
    model = build(2)
    block = model.stages[0][0]
    copied = duplicate(block)
    x = torch.randn(2, 16, 4, 4)
    with pytest.raises(RuntimeError, match=LOST):
        copied(x)
    # It can still be shown and moved, and the one left behind computes.
    assert "role='child'" in repr(copied)
    copied.half()
    assert block(x).isfinite().all()
    # Nor does the whole stage need the model.
    assert duplicate(model.stages)[0](x).equal(model(x))


def test_a_child_keeps_no_parent_alive():
    child, model = pair()
    gone = weakref.ref(child.parent)
    del model
    gc.collect()
    assert gone() is None
    with pytest.raises(RuntimeError, match=LOST):
        child(torch.randn(1, 8, 4, 4))


def test_a_parent_goes_on_without_its_children():
    model = family(padding=1, members=3)
    parent = model[2]
    del model
    gc.collect()
    x = torch.randn(1, 8, 4, 4)
    expected = nn.functional.conv2d(x, parent.weight, parent.bias, padding=1)
    assert parent(x).equal(expected)
    assert parent.family.children == []
    assert copy.deepcopy(parent)(x).equal(expected)
