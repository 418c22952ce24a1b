"""mmkdna.plan: which layers share, by how much the loss rises."""

import copy
import itertools

import pytest
import torch
from torch import nn

import mmkdna
from mmkdna.errors import BadInput

SETTINGS = dict(min_channels=8)


def loss(net, batch):
    return (net(batch) - 1).square().mean()


@pytest.fixture
def net():
    torch.manual_seed(0)
    convs = [nn.Conv2d(8, 8, 3, padding=1) for _ in range(4)]
    layers = [part for conv in convs for part in (conv, nn.BatchNorm2d(8))]
    return nn.Sequential(*layers)


@pytest.fixture
def batches():
    torch.manual_seed(1)
    return [torch.randn(4, 8, 6, 6) for _ in range(2)]


def mean_loss(net, batches):
    net = copy.deepcopy(net).train().requires_grad_(False)
    return sum(float(loss(net, batch)) for batch in batches) / len(batches)


def tied(net, child, parent):
    net = copy.deepcopy(net)
    with torch.no_grad():
        net[child].weight.copy_(net[parent].weight)
    return net


def test_the_first_pair_costs_least(net, batches):
    found = mmkdna.plan(net, batches, loss, -0.1, **SETTINGS)
    before = mean_loss(net, batches)
    rises = {
        pair: mean_loss(tied(net, *pair), batches) - before
        for pair in itertools.permutations((0, 2, 4, 6), 2)
    }
    (step,) = found.steps
    pair = int(step.children[0]), int(step.parent)
    assert pair == min(rises, key=rises.get)
    assert step.rise == pytest.approx(rises[pair], rel=1e-4)
    assert found.loss == pytest.approx((before, before + rises[pair]))


def test_linear_layers_are_planned_and_converted():
    torch.manual_seed(0)
    net = nn.Sequential(*(nn.Linear(16, 16) for _ in range(3)))
    batches = [torch.randn(4, 16) for _ in range(2)]
    how = dict(linear=True, kernel_sizes=(1,), min_channels=8)
    found = mmkdna.plan(net, batches, loss, -0.1, **how)
    mmkdna.convert(net, **found.conv_cfg)
    assert sum(p.numel() for p in net.parameters()) == found.parameters


def test_what_it_gives_converts_and_meets_the_budget(net, batches):
    for budget in (-0.1, -0.3, -0.5):
        found = mmkdna.plan(net, batches, loss, budget, **SETTINGS)
        ours = mmkdna.convert(copy.deepcopy(net), **found.conv_cfg)
        count = sum(p.numel() for p in ours.parameters())
        assert (
            count == found.parameters <= (1 + budget) * found.plain_parameters
        )
        formed = {
            (family.parent.name, frozenset(n for n, _ in family.children))
            for family in mmkdna.list_families(ours)
        }
        planned = {(f[-1], frozenset(f[:-1])) for f in found.families}
        assert formed == planned
        # A child starts with the kernel that was measured.
        assert found.loss[1] == pytest.approx(mean_loss(ours, batches))


def test_the_model_and_the_random_numbers_stay(net, batches):
    net.append(nn.Dropout(0.5))
    before = copy.deepcopy(net.state_dict())
    net.eval()
    state = torch.get_rng_state()
    first = mmkdna.plan(net, batches, loss, **SETTINGS)
    assert first == mmkdna.plan(net, batches, loss, **SETTINGS)
    assert torch.equal(state, torch.get_rng_state())
    assert not net.training
    assert not mmkdna.list_families(net)
    after = net.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(budget=-0.99), r'budget=-0\.99: .* saves [\d.]+% .* expected'),
        (dict(budget=0.25), r'budget=0\.25: expected a share'),
        (dict(batches=[]), r'batches=\[\]: expected at least one batch'),
        (
            dict(min_channels=64),
            'Sequential: no layers can share .*8 channels',
        ),
        (dict(families=[['0', '2']]), 'families=.*: expected nothing'),
        (dict(reduktion=2), 'reduktion=2: .*did you mean reduction'),
        (
            dict(loss=lambda net, batch: loss(net, batch) * torch.nan),
            'the loss is nan, expected a finite number',
        ),
    ],
)
def test_what_cannot_be_planned_is_refused(net, batches, changes, message):
    given = dict(batches=batches, loss=loss, budget=-0.25, **SETTINGS)
    with pytest.raises(BadInput, match=message):
        mmkdna.plan(net, **{**given, **changes})


@pytest.mark.parametrize('others', [0, 72, 144, 216, 288, 360, 2_000_000])
def test_the_budget_that_a_refusal_names_can_be_met(net, batches, others):
    net[1].others = nn.Parameter(torch.zeros(others))
    with pytest.raises(BadInput, match='at least') as refused:
        mmkdna.plan(net, batches, loss, -0.99, **SETTINGS)
    budget = float(str(refused.value).split('at least ')[1].split(',')[0])
    found = mmkdna.plan(net, batches, loss, budget, **SETTINGS)
    assert found.parameters <= (1 + budget) * found.plain_parameters


def test_a_model_with_families_is_refused(net, batches):
    mmkdna.convert(net, **SETTINGS)
    with pytest.raises(BadInput, match='expected a plain model'):
        mmkdna.plan(net, batches, loss, **SETTINGS)
