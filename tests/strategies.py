"""What hypothesis generates: module trees, conv_cfgs, and damage to files."""

import copy
import itertools
import os
from collections import OrderedDict
from dataclasses import fields

import hypothesis
import pytest
import torch
from hypothesis import strategies as st
from mmengine.logging import MMLogger
from torch import nn
from torch.nn.utils import parametrizations, prune

from mmkdna.errors import BadInput
from mmkdna.layers import Settings

FEW, MANY = 50, 2000
"""How many cases a fast and a slow test have."""
CHANNELS = 4
X = torch.randn(2, CHANNELS, 6, 6, generator=torch.Generator().manual_seed(0))


def cases(**drawn):
    """Make a function a test of generated cases: few, and many if slow.

    They are the same in every run. MMKDNA_FUZZ_SEED generates others.
    """

    def decorate(function):
        def test(examples):
            seed = os.environ.get('MMKDNA_FUZZ_SEED')
            profile = hypothesis.settings(
                max_examples=examples,
                derandomize=not seed,
                database=None,
                deadline=None,
                suppress_health_check=[*hypothesis.HealthCheck],
            )
            generated = profile(hypothesis.given(**drawn)(function))
            if seed:
                generated = hypothesis.seed(int(seed))(generated)
            generated()

        test.__name__, test.__doc__ = function.__name__, function.__doc__
        many = pytest.param(MANY, marks=pytest.mark.slow)
        return pytest.mark.parametrize('examples', [FEW, many])(test)

    return decorate


def quiet():
    """Log nothing: a warning for each of thousands of cases hides the rest."""
    MMLogger.get_current_instance().setLevel('CRITICAL')


class Chain(nn.Module):
    """Calls the items of a list, as the layers of a head are called."""

    def __init__(self, items):
        super().__init__()
        self.items = nn.ModuleList(items)

    def forward(self, x):
        for item in self.items:
            x = item(x)
        return x


class Residual(nn.Module):
    """Adds what a block computes to its input."""

    def __init__(self, block):
        super().__init__()
        self.block = block

    def forward(self, x):
        return x + self.block(x)


WEIGHTS = ('weight_norm', 'spectral_norm', 'prune', 'freeze', 'tie')
"""What may have been done to the weight of a conv."""
CONVS = st.fixed_dictionaries(
    dict(size=st.sampled_from([3, 3, 3, 1])),
    optional=dict(
        groups=st.sampled_from([1, 2]),
        bias=st.booleans(),
        dilation=st.just(2),
        padding_mode=st.just('reflect'),
        weight=st.sampled_from(WEIGHTS),
    ),
)
LEAVES = st.one_of(
    CONVS,
    CONVS,
    st.sampled_from([nn.ReLU, nn.Identity, nn.BatchNorm2d]),
    # One of the modules that were made before, once more.
    st.integers(0, 9),
)
TREES = st.recursive(
    LEAVES,
    lambda items: st.tuples(
        st.sampled_from([nn.Sequential, Chain, Residual]),
        st.lists(items, max_size=5),
    ),
    max_leaves=12,
).map(lambda tree: (nn.Sequential, [tree]))
"""Of layers that keep the shape of their input."""


def grow(tree):
    """The module of a tree, in eval; it is the same each time."""
    torch.manual_seed(0)
    made = []
    model = _grow(tree, made)
    for parameter in model.parameters():
        # Biases and norms, too.
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def _grow(tree, made):
    if isinstance(tree, int):
        module = made[tree % len(made)] if made else nn.Identity()
    elif isinstance(tree, tuple):
        kind, items = tree
        items = [_grow(item, made) for item in items]
        if kind is Residual:
            module = Residual(nn.Sequential(*items))
        else:
            module = kind(items) if kind is Chain else kind(*items)
    elif isinstance(tree, dict):
        module = _conv(made, **tree)
    else:
        more = (CHANNELS,) if tree is nn.BatchNorm2d else ()
        module = tree(*more)
    made.append(module)
    return module


def _conv(made, size, weight=None, dilation=1, **kwargs):
    padding = dilation * (size // 2)
    kwargs |= dict(padding=padding, dilation=dilation)
    conv = nn.Conv2d(CHANNELS, CHANNELS, size, **kwargs)
    if weight in ('weight_norm', 'spectral_norm'):
        return getattr(parametrizations, weight)(conv)
    if weight == 'prune':
        prune.l1_unstructured(conv, 'weight', 0.5)
    elif weight == 'freeze':
        conv.weight.requires_grad_(False)
    elif weight == 'tie':
        for other in made:
            of_other = getattr(other, '_parameters', {}).get('weight')
            if of_other is not None and of_other.shape == conv.weight.shape:
                conv.weight = of_other
    return conv


SETTINGS = st.fixed_dictionaries(
    dict(min_channels=st.sampled_from([1, 1, 2, 4, 5])),
    optional=dict(
        family_size=st.one_of(
            st.none(),
            st.integers(2, 4),
            st.lists(st.integers(2, 3), min_size=1, max_size=2),
        ),
        parent=st.sampled_from(['last', 'first']),
        kernel_sizes=st.sampled_from([None, [3], [1, 3]]),
        reduction=st.sampled_from([1, 2, 4, 5]),
        norm=st.sampled_from(['LN', 'BN', None]),
        gate=st.sampled_from(['identity', 'sigmoid']),
    ),
)
"""A conv_cfg that is right."""

ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 5),
    st.floats(),
    st.sampled_from(['', 'last', 'LN', 'ln', '0', 'families']),
    st.binary(max_size=2),
    st.just(object()),
)
VALUES = st.recursive(
    ODD,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.sets(st.integers(0, 3)),
        st.dictionaries(st.sampled_from('ab'), inner, max_size=2),
    ),
    max_leaves=6,
)
ARGUMENTS = st.dictionaries(
    st.sampled_from(
        [*(field.name for field in fields(Settings)), 'align', 'famly_size']
    ),
    VALUES,
    max_size=4,
)
"""A conv_cfg that may be wrong."""


def refused(function, *args, **kwargs):
    """What a function says to bad input; None if it takes it."""
    try:
        function(*args, **kwargs)
    except BadInput as error:
        return str(error)
    return None


def storages(model):
    """Where the parameters and buffers of a model are in memory."""
    tensors = itertools.chain(model.parameters(), model.buffers())
    return {t.untyped_storage().data_ptr() for t in tensors if t.numel()}


def move(model, seed=1):
    """Move adapters and all else away from their start."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def output(model, x=X):
    with torch.no_grad():
        return model(x)


def same_state(state):
    """A copy of a state dict, with its metadata."""
    copied = OrderedDict((k, v.clone()) for k, v in state.items())
    copied._metadata = copy.deepcopy(getattr(state, '_metadata', None))
    return copied
