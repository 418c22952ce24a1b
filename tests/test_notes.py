"""What a state dict says of families: parents, gates, by every name."""

import pytest
from torch import nn
from weights_for import R18, build

import mmkdna
from mmkdna.errors import BadInput

CHILD, PARENT = 'layer4.0.conv2', 'layer4.1.conv1'
KEYS = {'kernel_dna_families', 'kernel_dna_gates'}


def said(module):
    """The notes in the metadata of a state dict, by module."""
    found = {}
    for name, metadata in module.state_dict()._metadata.items():
        notes = {k: v for k, v in metadata.items() if k in KEYS}
        if notes:
            found[name] = notes
    return found


def test_the_outermost_module_says_parents_and_gates():
    model = build(R18, families=[[CHILD, PARENT]], gate='sigmoid')
    parents, gates = {CHILD: PARENT}, {CHILD: 'sigmoid'}
    notes = dict(kernel_dna_families=parents, kernel_dna_gates=gates)
    assert said(model) == {'': notes}


def test_every_name_of_a_child_is_there():
    model = build(R18, families=[[CHILD, PARENT]])
    both = nn.ModuleDict(dict(one=model, two=model))
    mmkdna.form_families(both)
    (notes,) = said(both).values()
    assert notes['kernel_dna_families'] == {
        f'one.{CHILD}': f'one.{PARENT}',
        f'two.{CHILD}': f'one.{PARENT}',
    }


def test_a_parent_outside_has_no_name():
    model = build(R18, families=[[CHILD, PARENT]])
    (notes,) = said(model.layer4[0]).values()
    assert notes['kernel_dna_families'] == {'conv2': ''}


def test_a_destination_of_the_callers_is_filled():
    model = build(R18)
    state = model.state_dict(destination={})
    assert list(state) == list(model.state_dict())


@pytest.mark.parametrize('noted', [[], 'x', {CHILD: None}, {3: PARENT}])
def test_families_that_are_no_names_are_refused(noted):
    model = build(R18, families=[[CHILD, PARENT]])
    state = model.state_dict()
    state._metadata['']['kernel_dna_families'] = noted
    with pytest.raises(BadInput, match='metadata kernel_dna_families='):
        model.load_state_dict(state)
