"""Any tree of modules under any conv_cfg: exact, separate, and it returns."""

import copy
import pickle

import pytest
import torch
from hypothesis import strategies as st
from strategies import (
    ARGUMENTS,
    SETTINGS,
    TREES,
    cases,
    grow,
    move,
    output,
    quiet,
    refused,
    storages,
)
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

import mmkdna
from mmkdna.families import mark
from mmkdna.layers import KernelDNALayer, Settings


@pytest.fixture(autouse=True)
def _quiet():
    quiet()


def formed(tree, settings):
    """A model with families; None where it is said that none can form."""
    model = grow(tree)
    mark(model, **settings)
    if said := refused(mmkdna.form_families, model):
        if settings.get('reduction') == 5:
            assert 'expected at most its 4 input channels' in said
        else:
            assert isinstance(settings.get('family_size'), list)
            assert 'are eligible there' in said
        return None
    return model


def families(model):
    return [str(family) for family in mmkdna.list_families(model)]


def check_rules(model):
    """Members can share; what is no member is exactly the plain layer."""
    for family in mmkdna.list_families(model):
        layers = [layer for _, layer in family.members]
        assert len({*layers}) == len(layers) > 1
        assert len({layer.kernel_shape for layer in layers}) == 1
        assert len({layer.groups for layer in layers}) == 1
        assert len({layer.is_trained for layer in layers}) == 1
        for layer in layers:
            assert type(layer._parameters.get('weight', layer.adapter)) in (
                nn.Parameter,
                mmkdna.layers.Adapter,
            )
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and not is_parametrized(module):
            assert type(module) is nn.Conv2d


def check_start(model, tree, settings):
    """It computes what the plain network of equal kernels computes."""
    plain = grow(tree)
    for family in mmkdna.list_families(model):
        kernel = plain.get_submodule(family.parent.name).weight
        for name, _ in family.children:
            plain.get_submodule(name).weight.data.copy_(kernel)
    if settings.get('gate') != 'sigmoid':
        torch.testing.assert_close(output(model), output(plain))
        reverted = mmkdna.revert(formed(tree, settings))
        layers = reverted.modules()
        assert not any(isinstance(m, KernelDNALayer) for m in layers)
        assert [*reverted.state_dict()] == [*plain.state_dict()]
        torch.testing.assert_close(output(reverted), output(plain))


def check_copies(model, tree, settings):
    """Copies, pickles and loaded twins are whole, and their own."""
    found = families(model)
    copies = [formed(tree, settings)]
    # torch itself copies no pruned layer, and pickles no parametrized one.
    if not any(hasattr(m, 'weight_mask') for m in model.modules()):
        copies.append(copy.deepcopy(model))
    if not any(map(is_parametrized, model.modules())):
        copies.append(pickle.loads(pickle.dumps(model)))
    move(model)
    expected = output(model)
    for twin in copies:
        assert families(twin) == found
        assert storages(twin).isdisjoint(storages(model))
        twin.load_state_dict(model.state_dict())
        assert output(twin).equal(expected)
        # Trained on, they go their own ways.
        move(twin, seed=2)
        assert output(model).equal(expected)


def check_gradients(model):
    x = torch.randn(2, 4, 6, 6, requires_grad=True)
    model.train()(x).square().mean().backward()
    for family in mmkdna.list_families(model):
        for name, layer in family.members:
            for key, parameter in layer.named_parameters():
                if parameter.requires_grad:
                    assert parameter.grad is not None, f'{name}.{key}'


@cases(tree=TREES, settings=SETTINGS)
def test_families_in_any_tree_are_exact_separate_and_come_back(tree, settings):
    model = formed(tree, settings)
    if model is None:
        return
    check_rules(model)
    # A second call changes nothing.
    keys = [*model.state_dict()]
    assert families(model) == list(map(str, mmkdna.form_families(model)))
    assert [*model.state_dict()] == keys
    check_start(model, tree, settings)
    check_copies(model, tree, settings)
    check_gradients(model)


@cases(arguments=ARGUMENTS)
def test_any_arguments_are_settings_or_a_sentence(arguments):
    if said := refused(Settings.of, arguments):
        assert any(name in said for name in arguments)
        return
    # What is accepted can be compared, printed, and used.
    settings = Settings.of(arguments)
    assert settings == Settings.of(arguments)
    assert hash(settings) == hash(Settings.of(arguments))
    kwargs = eval(str(settings))
    assert Settings.of({k: v for k, v in kwargs.items() if k != 'type'}) == (
        settings
    )
    model = nn.Sequential(*(nn.Conv2d(4, 4, 3, padding=1) for _ in '1234'))
    mark(model, **arguments)
    if said := refused(mmkdna.form_families, model):
        assert 'famil' in said or 'reduction' in said
    check_rules(model)
    assert output(model).isfinite().all()


NAMES = st.one_of(
    st.from_regex(r'[0-3](\.[0-5]){0,2}', fullmatch=True),
    st.sampled_from(['', '.', '0.', 'items.0', '0.items.1', 'block.0', 'x']),
)
LISTS = st.lists(st.lists(NAMES, min_size=2, max_size=3), min_size=1)


@cases(tree=TREES, listed=LISTS)
def test_any_list_of_names_is_formed_or_refused_whole(tree, listed):
    model = grow(tree)
    before, keys = output(model), [*model.state_dict()]
    said = refused(mmkdna.convert, model, families=listed, reduction=2)
    if said is not None:
        assert 'families' in said or 'no layers can' in said
        assert output(model).equal(before)
        assert [*model.state_dict()] == keys
        return
    check_rules(model)
    assert len(mmkdna.list_families(model)) == len(listed)
