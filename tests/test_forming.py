"""Families form once, of the layers that are there."""

import pytest
import torch
from helpers import CONV_CFG, conv, convs, count
from mmcv.cnn import ConvModule
from mmengine.registry import MODELS
from torch import nn

import mmkdna
from mmkdna.errors import BadInput
from mmkdna.families.forming import form


def test_forming_twice_changes_nothing_and_says_nothing(build, log):
    model = build(5, family_size=[2])
    state = {k: id(v) for k, v in model.state_dict(keep_vars=True).items()}
    first = mmkdna.list_families(model)
    log.clear()
    assert mmkdna.form_families(model) == first
    after = {k: id(v) for k, v in model.state_dict(keep_vars=True).items()}
    assert after == state
    assert log.messages == []


def test_a_build_says_once_what_formed(build, log):
    build(4)
    (said,) = (m for m in log.messages if 'families' in m)
    assert said.startswith('KernelDNA: 2 families, 2 children')


def test_names_that_wait_do_not_hold_up_the_rule():
    named = conv(families=[['named', 'later']])
    model = nn.ModuleDict(dict(ruled=convs(2), named=named))
    assert len(form(model, last=False)) == 1
    with pytest.raises(BadInput, match="'later' is unknown"):
        mmkdna.form_families(model)


def test_what_is_formed_stays_when_more_is_built_around(build):
    part = build(3)
    before = mmkdna.list_families(part)
    model = nn.Sequential(part, build(3))
    mmkdna.form_families(model)
    assert mmkdna.list_families(part) == before
    assert count(model) == 2


def test_plain_pytorch_code_forms_its_own():
    model = nn.Sequential(
        *(ConvModule(16, 16, 3, conv_cfg=CONV_CFG) for _ in '12')
    )
    assert count(model) == 0
    mmkdna.form_families(model)
    assert count(model) == 1


def test_each_part_stays_in_the_mode_that_it_is_in():
    model = nn.ModuleDict(dict(norm=nn.BatchNorm2d(16).eval(), convs=convs(2)))
    mmkdna.form_families(model)
    assert count(model) == 1
    assert not model.norm.training
    assert all(module.training for module in model.convs.modules())


@pytest.mark.parametrize('family_size', [2, None])
def test_what_a_stage_freezes_in_train_is_no_family_with_the_rest(
    family_size,
):
    """VGG is one nn.Sequential, and freezes in train()."""
    import mmpretrain.models  # noqa: F401

    conv_cfg = dict(type='KernelDNA', family_size=family_size)
    model = MODELS.build(
        dict(
            type='mmpretrain.VGG',
            depth=16,
            norm_cfg=dict(type='BN'),
            frozen_stages=4,
            norm_eval=True,
            out_indices=(3, 4),
            conv_cfg=conv_cfg,
        )
    )
    assert {'features.11.conv', 'features.15.conv'} < {
        name for f in mmkdna.list_families(model) for name, _ in f.members
    }
    model.train()
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        before = model(x)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.05)
    for _ in range(5):
        optimizer.zero_grad()
        model(x)[1].square().mean().backward()
        optimizer.step()
    with torch.no_grad():
        after = model(x)
    assert torch.equal(after[0], before[0])
    assert not torch.equal(after[1], before[1])
    for family in mmkdna.list_families(model):
        assert len({layer.is_trained for _, layer in family.members}) == 1
