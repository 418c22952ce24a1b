"""Which layers of a trained model share, by how much the loss rises."""

import copy
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn

from ..errors import BadInput, check
from ..families import list_families, mark, sites
from ..layers.adapter import adapter_size
from .convert import possible_families

PLANNED = ('families', 'family_size', 'parent')
"""Arguments of a conv_cfg that the plan chooses."""
PLAIN = 'a plain model, without families'
BUDGET = 'a share of the parameters to save, above -1 and below 0'
Loss = Callable[[nn.Module, Any], torch.Tensor]


class Step(NamedTuple):
    """Two families become one."""

    children: tuple[str, ...]
    """Layers that get another parent; the first one loses its kernel."""
    parent: str
    saved: int
    """Parameters that the plan saves, this step included."""
    rise: float
    """Of the loss, this step included, were each rise independent."""


@dataclass(frozen=True)
class Plan:
    """What :func:`plan` chose, and what it measured.

    Args:
        families: Names of the members of each family, its parent last.
        steps: How it came to them, in order.
        parameters: Of the model with these families.
        plain_parameters: Of the model as it is.
        loss: Mean loss of the batches before, and with all families.
        conv_cfg: The arguments for :func:`mmkdna.convert`, or for the key
            ``kernel_dna`` in the config of the model.
    """

    families: tuple[tuple[str, ...], ...]
    steps: tuple[Step, ...]
    parameters: int
    plain_parameters: int
    loss: tuple[float, float]
    conv_cfg: dict[str, Any]


def plan(
    model: nn.Module,
    batches: Iterable[Any],
    loss: Loss,
    budget: float = -0.25,
    linear: bool = False,
    progress: Callable[[Sequence[Any]], Iterable[Any]] = iter,
    **conv_cfg: Any,
) -> Plan:
    """Choose which layers of a trained model share their kernels.

    It gives each layer the kernel of each other one that it could share with,
    alone, and measures how much the loss rises. Then it joins families, the
    least rise for each saved parameter first, until the budget is met. The
    layers that may share are those of the default rule: those of one stage,
    one shape and at least ``min_channels`` channels.

    Args:
        model: A plain, trained model. It does not change; a copy is measured
            in training mode, so BatchNorm takes each batch's statistics.
        batches: What ``loss`` takes, a few batches.
        loss: ``loss(model, batch)`` is the loss, a scalar tensor.
        budget: Change of the model's parameters, such as -0.25.
        linear: Whether ``nn.Linear`` layers can share, too.
        progress: Wraps what it goes through, such as rich's ``track``.
        **conv_cfg: As in a config, without ``families``, ``family_size`` and
            ``parent``.

    Raises:
        BadInput: If no layers can share, the budget cannot be met (the
            message says what can), an argument is out of its range, or the
            loss is not finite.
    """
    numeric = isinstance(budget, (int, float)) and not isinstance(budget, bool)
    check('budget', budget, numeric and -1 < budget < 0, BUDGET)
    for name in PLANNED:
        given = conv_cfg.get(name)
        check(name, given, name not in conv_cfg, 'nothing: the plan says it')
    check('model', type(model).__name__, not list_families(model), PLAIN)
    batches = list(batches)
    check('batches', batches, bool(batches), 'at least one batch')
    net = copy.deepcopy(model).train()
    mark(net, linear, family_size=None, **conv_cfg)
    found = sites(net)
    families = possible_families(model, found, conv_cfg)
    groups = [family.members for family in families]
    total = sum(p.numel() for p in model.parameters())
    kinds = {site.name: site.kind for site in found}
    saves = {
        name: math.prod(kinds[name].shape) - adapter_size(*kinds[name].adapter)
        for group in groups
        for name, _ in group
    }
    wanted = -budget * total
    most = sum(saves[n] for group in groups for n, _ in group[:-1])
    if most < wanted:
        # Rounded up, the number that it names would be refused, too.
        share = math.floor(10_000 * most / total) / 10_000
        raise BadInput(
            f'budget={budget}: sharing all that can share saves '
            f'{share:.2%} of the parameters; expected at least {-share}, or '
            'a lower min_channels'
        )
    before = _measure(net, batches, loss)
    rises = dict(_rises(net, groups, batches, loss, before, progress))
    joined: dict[str, tuple[str, ...]] = {name: (name,) for name in saves}
    steps = list(_join(joined, groups, rises, saves, wanted))
    chosen = tuple(f for f in joined.values() if len(f) > 1)
    weights = {
        name: module.weight for group in groups for name, module in group
    }
    with torch.no_grad():
        for family in chosen:
            for name in family[:-1]:
                weights[name].copy_(weights[family[-1]])
    if linear:
        conv_cfg['linear'] = True
    return Plan(
        chosen,
        tuple(steps),
        total - steps[-1].saved,
        total,
        (before, _measure(net, batches, loss)),
        {**conv_cfg, 'families': [list(family) for family in chosen]},
    )


def _measure(net: nn.Module, batches: Sequence[Any], loss: Loss) -> float:
    """The mean loss; what is random in it is the same each time."""
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        values = [float(loss(net, batch)) for batch in batches]
    mean = sum(values) / len(values)
    if not math.isfinite(mean):
        raise BadInput(
            f'the loss is {mean}, expected a finite number: is the checkpoint '
            'of this model?'
        )
    return mean


def _rises(
    net: nn.Module,
    groups: Sequence[Sequence[Any]],
    batches: Sequence[Any],
    loss: Loss,
    before: float,
    progress: Callable[[Sequence[Any]], Iterable[Any]],
) -> Iterator[tuple[tuple[str, str], float]]:
    """The rise of the loss, for each child and parent."""
    pairs = [p for g in groups for p in itertools.permutations(g, 2)]
    for child, parent in progress(pairs):
        own = child.module.weight.detach().clone()
        with torch.no_grad():
            child.module.weight.copy_(parent.module.weight)
        rise = _measure(net, batches, loss) - before
        with torch.no_grad():
            child.module.weight.copy_(own)
        yield (child.name, parent.name), rise


def _join(
    families: dict[str, tuple[str, ...]],
    groups: Sequence[Sequence[Any]],
    rises: dict[tuple[str, str], float],
    saves: dict[str, int],
    wanted: float,
) -> Iterator[Step]:
    """Join families, by parent, until they save as much as is wanted."""
    saved, total = 0, 0.0

    def rise(parent: str, into: str) -> float:
        *children, _ = families[parent]
        moved = sum(rises[c, into] - rises[c, parent] for c in children)
        return rises[parent, into] + moved

    while saved < wanted:
        pairs = (
            (a.name, b.name)
            for group in groups
            for a, b in itertools.permutations(group, 2)
            if a.name in families and b.name in families
        )
        parent, into = min(pairs, key=lambda p: rise(*p) / saves[p[0]])
        total += rise(parent, into)
        saved += saves[parent]
        moved = families.pop(parent)
        families[into] = (*moved, *families[into])
        yield Step(moved[::-1], into, saved, total)
