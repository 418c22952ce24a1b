"""A KernelDNA checkpoint into a model of other families.

Exact where it can be represented; else it is refused, or the log says what
is lost.
"""

import copy
import re
from collections import OrderedDict

import pytest
import torch
from mmengine.registry import MODELS
from safetensors.torch import load_file, save_file
from weights_for import R18, R50, build, off, outputs, randomise

import mmkdna
from mmkdna.errors import BadInput

WIDE = dict(R50, base_channels=16)


def c(i):
    return f'layer3.{i}.conv2'


def net(*families):
    """An R-50 with families of the third stage's convs, by number."""
    return build(R50, families=[[c(i) for i in f] for f in families])


def load(one, other, log):
    """Load, and what is said of it: pairs of losses, or nothing."""
    log.clear()
    result = other.load_state_dict(one.state_dict())
    assert str(result) == '<All keys matched successfully>'
    return re.findall(r'from their own by ([\d.]+) to ([\d.]+)', log.text)


EXACT = {
    'the other parent': ([(2, 3)], [(3, 2)]),
    'a parent of three': ([(1, 2, 3)], [(3, 1, 2)]),
    'a family falls apart': ([(2, 3)], [(4, 5)]),
    'a child leaves': ([(1, 2, 3)], [(2, 3)]),
    'a parent leaves': ([(1, 2, 3)], [(1, 2)]),
    'a family in two': ([(1, 2, 3, 4)], [(1, 2), (3, 4)]),
}


@pytest.mark.parametrize('families', EXACT)
def test_open_gates_are_exact_where_kernels_are_of_one_family(families, log):
    before, after = EXACT[families]
    one, other = randomise(net(*before), gates=False), net(*after)
    if families == 'a family falls apart':
        # Those that are new children here have equal kernels there.
        state = one.state_dict()
        state[f'{c(4)}.weight'].copy_(state[f'{c(5)}.weight'])
    assert load(one, other, log) == []
    assert off(outputs(other), outputs(one)) < 1e-5


def test_first_and_last_are_one_family(log):
    last = randomise(build(R18, family_size=None), gates=False)
    first = build(R18, family_size=None, parent='first')
    assert load(last, first, log) == []
    assert off(outputs(first), outputs(last)) < 1e-5
    again = build(R18, family_size=None)
    assert load(first, again, log) == []
    assert off(outputs(again), outputs(last)) < 1e-5


def test_gates_are_kept_with_the_children_that_stay(log):
    one, other = randomise(net((1, 2, 3))), net((2, 3))
    with torch.no_grad():
        gate = one.get_submodule(c(1)).adapter.routing
        gate.excite.zero_()
        gate.bias.zero_()
    assert load(one, other, log) == []
    assert off(outputs(other), outputs(one)) < 1e-5


def test_children_of_a_parent_that_was_a_child_keep_their_gates(log):
    one, other = randomise(net((1, 2, 3))), net((1, 2))
    with torch.no_grad():
        gate = one.get_submodule(c(2)).adapter.routing
        gate.excite.zero_()
        gate.bias.zero_()
    assert load(one, other, log) == []
    assert off(outputs(other), outputs(one)) < 1e-5


LOST = {
    'swapped parents': ([(2, 3), (4, 5)], [(2, 5), (4, 3)], [2, 4]),
    'a family grows': ([(2, 5)], [(2, 3, 5)], [3]),
    'one more family': ([(2, 5)], [(2, 5), (3, 4)], [3]),
    'a chain': ([(2, 3)], [(2, 4), (3, 5)], [2, 3]),
}


@pytest.mark.parametrize('families', LOST)
def test_what_is_lost_of_other_kernels_is_said(families, log):
    before, after, lost = LOST[families]
    one, other = randomise(net(*before)), net(*after)
    expected = {
        i: one.get_submodule(c(i)).kernel().detach()
        if i in (i for f in before for i in f)
        else one.get_submodule(c(i)).weight.detach()
        for i in range(1, 6)
    }
    ((low, high),) = load(one, other, log)
    off_by = []
    for i in range(1, 6):
        layer = other.get_submodule(c(i))
        kernel = layer.kernel() if hasattr(layer, 'role') else layer.weight
        error = off(kernel.detach(), expected[i])
        assert (error > 1e-5) == (i in lost), i
        off_by += [error] if i in lost else []
    assert [low, high] == [f'{e:.2f}' for e in (min(off_by), max(off_by))]
    # What a child learned of its input it keeps.
    ours, theirs = other.state_dict(), one.state_dict()
    kept = [k for k in theirs if '.routing.' in k and k in ours]
    assert kept
    assert all(torch.equal(ours[k], theirs[k]) for k in kept)


def test_a_gate_without_a_place_is_refused_and_nothing_loads():
    one, other = randomise(net((2, 3))), net((3, 2))
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(BadInput) as error:
        other.load_state_dict(one.state_dict())
    text = str(error.value)
    assert f'its weights of {c(2)} do not fit' in text
    assert re.search(rf'{c(2)} +child of {c(3)} +parent', text)
    for key, value in other.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_a_modulation_of_zero_is_not_undone(log):
    """A channel that a child switched off has no factor back."""
    one, other = randomise(net((2, 3)), gates=False), net((3, 2))
    with torch.no_grad():
        one.get_submodule(c(2)).adapter.static.filter[0] = -1
    ((low, _),) = load(one, other, log)
    assert 0 < float(low) < 1
    ours = other.state_dict()
    assert all(value.isfinite().all() for value in ours.values())


@pytest.mark.parametrize('lost', ['file', 'dict', 'prefix'])
@pytest.mark.parametrize('gates', [True, False])
@pytest.mark.parametrize(
    ('before', 'after'), [(2, None), (2, 3), (None, 2), (2, 2)]
)
def test_lost_families_are_no_others(before, after, gates, lost, tmp_path):
    def net(family_size):
        return build(WIDE, min_channels=64, family_size=family_size)

    one = randomise(net(before), gates)
    state, other = one.state_dict(), net(after)
    if lost == 'file':
        save_file(state, tmp_path / 'own.safetensors')
        state = load_file(tmp_path / 'own.safetensors')
    elif lost == 'dict':
        state = OrderedDict(state.items())
    else:
        state = {f'backbone.{key}': value for key, value in state.items()}
        torch.save(dict(state_dict=state), tmp_path / 'own.pth')
        other.init_cfg = dict(
            type='Pretrained',
            checkpoint=str(tmp_path / 'own.pth'),
            prefix='backbone.',
        )

    def load():
        if lost == 'prefix':
            other.init_weights()
        else:
            other.load_state_dict(state)

    if before == after:
        load()
        assert torch.equal(outputs(other), outputs(one))
        return
    with pytest.raises(BadInput, match='other families than this model'):
        load()


def test_a_plain_model_takes_no_family():
    one = randomise(build(R18))
    with pytest.raises(RuntimeError, match=r'Missing key\(s\)'):
        MODELS.build(R18).load_state_dict(one.state_dict())
    other = build(R18, families=[['layer2.0.conv2', 'layer2.1.conv1']])
    with pytest.raises(BadInput, match='other families'):
        other.load_state_dict(one.state_dict())


def test_a_reverted_model_takes_a_family_whose_gates_are_open():
    one = randomise(build(R18), gates=False)
    other = mmkdna.revert(build(R18))
    other.load_state_dict(one.state_dict())
    assert mmkdna.list_families(other) == []
    assert off(outputs(other), outputs(one)) < 1e-5


def test_gates_of_another_function_are_refused():
    one = randomise(net((2, 3)))
    other = build(R50, families=[[c(2), c(3)]], gate='sigmoid')
    with pytest.raises(
        BadInput,
        match=f"gate of {c(2)} is 'identity' in the checkpoint and 'sigmoid'",
    ):
        other.load_state_dict(one.state_dict())
    # Its kernel is a plain layer's, but its gate would be lost.
    plain = net((4, 5))
    for name, parameter in other.named_parameters():
        if name.endswith(('excite', 'routing.bias')):
            parameter.data.zero_()
    with pytest.raises(BadInput, match='has other families'):
        plain.load_state_dict(other.state_dict())


@pytest.mark.parametrize(
    ('entry', 'value'),
    [
        ('adapter.static.spatial', None),
        ('adapter.static.spatial', torch.zeros(9)),
        ('adapter.static.filter', torch.zeros(1)),
        ('weight', torch.zeros(8, 8, 3, 3)),
    ],
)
def test_a_child_that_is_not_whole_is_refused_by_every_network(entry, value):
    state = net((2, 3)).state_dict()
    state.pop(f'{c(2)}.{entry}', None)
    if value is not None:
        state[f'{c(2)}.{entry}'] = value
    for families in ([(2, 3)], [(3, 2)], [(4, 5)]):
        says = f'(entries of |in state_dict: "|size mismatch for ){c(2)}'
        with pytest.raises((BadInput, RuntimeError), match=says):
            net(*families).load_state_dict(state)


def test_a_child_without_its_gate_is_no_plain_layer():
    state = net((2, 3)).state_dict()
    del state[f'{c(2)}.adapter.routing.excite']
    with pytest.raises(BadInput, match='has other families'):
        net((4, 5)).load_state_dict(state)
