"""Any checkpoint is loaded exactly, or refused by a sentence."""

import copy
import logging
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import strategies as st
from mmengine.logging import MMLogger
from safetensors.torch import save_file
from strategies import cases, move, output, quiet, refused, same_state
from torch import nn

import mmkdna
from mmkdna.adoption.notes import PARENTS
from mmkdna.adoption.offline import adopt_weights
from mmkdna.checkpoint import read_weights
from mmkdna.families import mark

SETTINGS = [
    dict(),
    dict(family_size=3),
    dict(family_size=None),
    dict(parent='first'),
    dict(families=[['stage.0', 'stage.3'], ['stage.2', 'stage.1']]),
    dict(families=[['stage.0', 'stage.1'], ['stage.2', 'stage.3']]),
    dict(families=[['stage.3', 'stage.1']]),
    dict(norm=None),
    dict(gate='sigmoid'),
    # The plain network.
    None,
]


def network(settings):
    """Four convs that can share, between layers that cannot."""
    torch.manual_seed(0)
    model = nn.Sequential()
    model.stem = nn.Conv2d(4, 4, 1)
    model.stage = nn.Sequential(
        *(nn.Conv2d(4, 4, 3, padding=1) for _ in range(4))
    )
    model.norm = nn.BatchNorm2d(4)
    if settings is not None:
        mark(model, min_channels=4, **settings)
        mmkdna.form_families(model)
    return model.eval()


NETWORKS = [network(settings) for settings in SETTINGS]
WHICH = st.integers(0, len(SETTINGS) - 1)
# Where nothing is moved, gates are 1 and children are as their parents.
SOURCES = [
    [move(copy.deepcopy(model), seed) for seed in (1, 2)] + [model]
    for model in NETWORKS
]
KEYS = sorted(
    {k for model in NETWORKS for k, v in model.state_dict().items() if v.dim()}
)
"""Not the numbers: an older torch takes the first of some for one, in plain
networks, too, and fails where there is none."""


@pytest.fixture(autouse=True)
def _quiet():
    quiet()


class Said(logging.Handler):
    """Collects what is logged."""

    def __init__(self):
        super().__init__()
        self.text = ''

    def emit(self, record):
        self.text += record.getMessage()

    def __enter__(self):
        MMLogger.get_current_instance().addHandler(self)
        MMLogger.get_current_instance().setLevel('WARNING')
        return self

    def __exit__(self, *args):
        MMLogger.get_current_instance().removeHandler(self)
        quiet()


SHAPES = [
    lambda t: t[None],
    lambda t: t.flatten(),
    lambda t: t.flatten()[:1],
    lambda t: t[:1] if t.dim() else t,
    lambda t: t.transpose(0, -1),
    lambda t: t.flatten()[:0],
    lambda t: torch.cat([t, t]) if t.dim() else t,
]
"""Most are another shape, some by chance the same."""


def rename(state, key, to):
    state[to] = state.pop(key)


def reshape(state, key, shape):
    if state[key].dim():
        state[key] = SHAPES[shape % len(SHAPES)](state[key]).clone()


CHANGES = st.one_of(
    st.tuples(st.just('drop'), st.integers(0, 99)),
    st.tuples(st.just('reshape'), st.integers(0, 99), st.integers(0, 9)),
    st.tuples(st.just('rename'), st.integers(0, 99), st.sampled_from(KEYS)),
    st.tuples(st.just('rename'), st.integers(0, 99), st.just('x.weight')),
    st.tuples(st.just('extra'), st.integers(0, 99), st.sampled_from(KEYS)),
    st.tuples(st.just('extra'), st.integers(0, 99), st.just('stage.9.weight')),
    st.tuples(st.just('prefix'), st.sampled_from(['module.', 'stage.'])),
    st.tuples(st.just('dtype'), st.sampled_from([torch.half, torch.double])),
    st.tuples(
        st.just('plan'),
        st.one_of(
            st.none(),
            st.just([]),
            st.just('stage.0'),
            st.dictionaries(
                st.sampled_from(['stage.0', 'stage.1', 'x']),
                st.sampled_from(['', 'stage.3', 'stage.0', 'y', None, 3]),
            ),
        ),
    ),
)


def change(state, kind, *how):
    """Do one thing to a checkpoint; its entries come in order."""
    keys = [*state]
    if kind in ('drop', 'reshape', 'rename', 'extra'):
        if not keys:
            return state
        key, how = keys[how[0] % len(keys)], how[1:]
    if kind == 'drop':
        del state[key]
    elif kind == 'reshape':
        reshape(state, key, *how)
    elif kind == 'rename':
        rename(state, key, *how)
    elif kind == 'extra':
        state[how[0]] = state[key].clone()
    elif kind == 'prefix':
        for key in keys:
            rename(state, key, how[0] + key)
    elif kind == 'dtype':
        for key in keys:
            if state[key].is_floating_point():
                state[key] = state[key].to(how[0])
    elif kind == 'plan':
        state._metadata[''][PARENTS] = how[0]
    return state


def load(which, state):
    """A network that loads strictly, what it said, and why it refuses."""
    model = copy.deepcopy(NETWORKS[which])
    state = same_state(state)
    with Said() as said:
        try:
            why = refused(model.load_state_dict, state)
        except RuntimeError as error:
            assert 'Error(s) in loading state_dict' in str(error)  # noqa: PT017
            why = str(error)
    return model, said.text, why


@cases(
    source=WHICH,
    moved=st.integers(0, 2),
    target=WHICH,
    changes=st.lists(CHANGES, max_size=2),
)
def test_a_state_dict_is_loaded_exactly_or_refused(
    source, moved, target, changes
):
    state = same_state(SOURCES[source][moved].state_dict())
    for kind, *how in changes:
        state = change(state, kind, *how)
    own, _, own_why = load(source, state)
    model, said, why = load(target, state)
    if any(kind == 'plan' for kind, *_ in changes):
        # It says of itself what is not so; a sentence or nothing is right.
        return
    if own_why is None:
        # Its own network has every entry as it is in the file.
        found = own.state_dict()
        assert set(found) == set(state)
        for key, value in state.items():
            # torch takes one number for a number.
            value = value.reshape(found[key].shape).to(found[key])
            assert found[key].equal(value), key
        if not changes:
            assert output(own).equal(output(SOURCES[source][moved]))
    if why is None:
        # What its own network refuses, no other one takes; but the squeeze
        # of a gate that is open does not matter.
        if own_why is not None:
            lines = own_why.splitlines()[1:]
            assert all('.adapter.routing.' in line for line in lines), own_why
            return
        # A variance may be negative in both.
        tolerance = dict(rtol=1e-3, atol=1e-3, equal_nan=True)
        # A plain layer has no gate yet, and the authors' is not 1 at first.
        new = SETTINGS[target] == dict(gate='sigmoid') != SETTINGS[source]
        if "start with their parent's" not in said and not new:
            torch.testing.assert_close(output(model), output(own), **tolerance)


@cases(
    source=WHICH,
    target=WHICH,
    changes=st.lists(CHANGES, max_size=2),
)
def test_weights_that_are_adopted_are_in_the_model_or_named(
    source, target, changes
):
    state = same_state(SOURCES[source][0].state_dict())
    for kind, *how in changes:
        state = change(state, kind, *how)
    model = copy.deepcopy(NETWORKS[target])
    before = same_state(model.state_dict())
    try:
        adopted = adopt_weights(model, state)
    except mmkdna.errors.BadInput:
        return
    part = model.get_submodule(adopted.part)
    children = {
        f'{name}.weight'
        for family in mmkdna.list_families(part)
        for name, _ in family.children
    }
    assert (
        set(state) - set(adopted.left_out) <= set(adopted.weights) | children
    )
    prefix = f'{adopted.part}.' if adopted.part else ''
    for key in adopted.missing:
        assert model.state_dict()[prefix + key].equal(before[prefix + key])


def save_legacy(state, path):
    torch.save(state, path, _use_new_zipfile_serialization=False)


WRITERS = {
    'a.pth': torch.save,
    'b.pth': lambda s, path: torch.save({'state_dict': s, 'meta': {}}, path),
    'c.pth': save_legacy,
    'd.safetensors': lambda s, path: save_file({**s}, path),
}


def written():
    """The bytes of a checkpoint in each format."""
    state = SOURCES[0][0].state_dict()
    with tempfile.TemporaryDirectory() as folder:
        for name, write in WRITERS.items():
            write(state, f'{folder}/{name}')
        return {n: Path(folder, n).read_bytes() for n in WRITERS}


FILES = written()
FLIPS = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)),
    max_size=4,
)


@cases(
    name=st.sampled_from([*WRITERS]),
    flips=FLIPS,
    kept=st.one_of(st.just(1), st.floats(0, 1)),
    junk=st.binary(max_size=8),
)
def test_a_damaged_file_is_read_as_it_is_or_refused(name, flips, kept, junk):
    whole = FILES[name]
    content = bytearray(whole)
    for place, bits in flips:
        content[int(place * len(content))] ^= bits
    content = content[: int(kept * len(content))] + junk
    with tempfile.TemporaryDirectory() as folder:
        path = f'{folder}/{name}'
        Path(path).write_bytes(content)
        if refused(read_weights, path):
            assert content != whole
            return
        state = read_weights(path)
    assert all(value.isfinite().all() for value in state.values())
    model, _, why = load(0, state)
    if why is None:
        for key, value in model.state_dict().items():
            assert value.equal(state[key].to(value)), key
