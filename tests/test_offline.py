"""One checkpoint file to another, without a run."""

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn
from weights_for import R18, build, off, outputs, randomise

import mmkdna
import mmkdna.backbones
from mmkdna.adoption.offline import adopt_weights
from mmkdna.checkpoint import read_weights, write_weights
from mmkdna.errors import BadInput


@pytest.fixture
def plain():
    return randomise(MODELS.build(R18))


def test_a_file_that_is_written_loads_as_it_is(plain, tmp_path):
    model, again = build(R18), build(R18)
    adopted = adopt_weights(model, plain.state_dict())
    path = str(tmp_path / 'made.safetensors')
    write_weights(adopted.weights, path, {})
    again.load_state_dict(read_weights(path))
    assert torch.equal(outputs(again), outputs(model))
    assert (adopted.left_out, adopted.missing) == ([], [])


def test_the_loss_of_each_child_is_told(plain):
    model = build(R18)
    adopted = adopt_weights(model, plain.state_dict())
    state = plain.state_dict()
    assert adopted.lost == {
        child: pytest.approx(
            off(
                state[f'{family.parent.name}.weight'],
                state[f'{child}.weight'],
            )
        )
        for family in mmkdna.list_families(model)
        for child, _ in family.children
    }
    assert len(adopted.lost) == 2


def test_a_parent_that_no_plain_checkpoint_has_is_in_the_file(tmp_path):
    """KDNAResNet-50 has one block more in its third stage."""
    torch.manual_seed(1)
    plain = randomise(MODELS.build(dict(type='mmpretrain.ResNet', depth=50)))
    weights = plain.state_dict()
    torch.manual_seed(2)
    model = MODELS.build(dict(type='KDNAResNet', depth=50))
    new = [
        family
        for family in mmkdna.list_families(model)
        if f'{family.parent.name}.weight' not in weights
    ]
    assert new
    adopted = adopt_weights(model, weights)
    path = str(tmp_path / 'made.safetensors')
    write_weights(adopted.weights, path, {})
    torch.manual_seed(3)
    again = MODELS.build(dict(type='KDNAResNet', depth=50))
    result = again.load_state_dict(read_weights(path), strict=False)
    assert result.unexpected_keys == []
    for family in new:
        kernel = again.get_submodule(family.parent.name).weight
        child = family.children[-1].name
        assert torch.equal(kernel, weights[f'{child}.weight'])
        assert f'{family.parent.name}.weight' not in result.missing_keys
    ours, theirs = again.state_dict(), model.state_dict()
    kept = [key for key in ours if key not in result.missing_keys]
    assert all(torch.equal(ours[key], theirs[key]) for key in kept)
    lost = [adopted.lost[f.children[-1].name] for f in new]
    assert lost == [0] * len(new)


def test_a_part_of_the_model_is_found(plain):
    holder = nn.ModuleDict(dict(head=nn.Linear(2, 2), backbone=build(R18)))
    weights = {**plain.state_dict(), 'fc.bias': torch.ones(3)}
    adopted = adopt_weights(holder, weights)
    assert adopted.part == 'backbone'
    assert adopted.left_out == ['fc.bias']
    assert set(adopted.weights) == set(holder['backbone'].state_dict())


def test_other_families_of_a_file_that_says_its_own_are_taken(tmp_path):
    one = randomise(build(R18), gates=False)
    other = build(R18, parent='first')
    torch.save(one.state_dict(), tmp_path / 'own.pth')
    adopt_weights(other, read_weights(str(tmp_path / 'own.pth')))
    assert off(outputs(other), outputs(one)) < 1e-5


def test_another_architecture_is_refused():
    with pytest.raises(BadInput, match='of another architecture than the mod'):
        adopt_weights(build(R18), nn.Linear(2, 2).state_dict())


def test_other_shapes_are_refused_by_name(plain):
    wide = MODELS.build(dict(R18, base_channels=8))
    with pytest.raises(BadInput) as error:
        adopt_weights(build(R18), wide.state_dict())
    assert 'does not fit the model' in str(error.value)
    assert 'layer4.1.conv1.weight: (64, 64, 3, 3)' in str(error.value)
