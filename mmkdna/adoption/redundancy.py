"""How much the kernels of a trained plain network have in common.

Similarity of kernels and of their responses is linear CKA (Kornblith et al.,
arXiv 1905.00414, section 3); what sharing would keep is measured by the fit
that loading does.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import networkx
import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config
from torch import Tensor, nn

from ..layers import Policy
from .align import align, hidden_widths
from .fit import fit_modulation

CELLS = 8
"""Responses are averaged over a grid of this many cells each way."""


@dataclass(frozen=True)
class Pair:
    """Two convs of one stage and one shape.

    Args:
        first, second: Names, in order of depth.
        cka: Linear CKA of the kernels, each filter a feature, each input tap
            an observation: 0 to 1, whatever the order of the filters.
        cosine: What of one kernel the other explains by static modulation,
            as a cosine, ``sqrt(1 - error ** 2)``; the better direction.
        aligned: The same after alignment; as ``cosine`` where the block is
            not known.
        parent: Which of the two explains the other better then.
        response: Linear CKA of the responses; None without images.
    """

    first: str
    second: str
    cka: float
    cosine: float
    aligned: float
    parent: str
    response: float | None = None

    @property
    def explained(self) -> float:
        """Share of a child's energy that its parent would explain."""
        return self.aligned**2


@dataclass(frozen=True)
class Stage:
    """Convs that may share, and every pair of them.

    Args:
        name: Name of the sequence that holds them, and their kernel's shape.
        convs: Names, in order of depth.
        pairs: Each pair once.
    """

    name: str
    convs: tuple[str, ...]
    pairs: list[Pair] = field(default_factory=list)


def stages(model: nn.Module, policy: Policy) -> list[Stage]:
    """Convs of equal shape in one sequence, which a policy finds eligible.

    Args:
        model: A plain model.
        policy: What counts as eligible; its ``family_size`` is not asked.
    """
    found: dict[tuple, list[str]] = {}
    for name, conv in model.named_modules():
        if type(conv) is nn.Conv2d and not policy.obstacles(conv):
            shape = 'x'.join(map(str, conv.weight.shape))
            key = shape, conv.groups
            for container in _containers(model, name):
                found.setdefault((container, *key), []).append(name)
    taken: set[str] = set()
    result = []
    # The innermost sequence that holds two comes first.
    for (container, shape, _), names in sorted(
        found.items(), key=lambda item: -item[0][0].count('.')
    ):
        free = tuple(name for name in names if name not in taken)
        if len(free) > 1:
            taken.update(free)
            result.append(Stage(f'{container} {shape}', free))
    order = {name: i for i, (name, _) in enumerate(model.named_modules())}
    return sorted(result, key=lambda stage: order[stage.convs[0]])


def _containers(model: nn.Module, name: str) -> Iterator[str]:
    path = name.split('.')
    for depth in range(len(path)):
        above = '.'.join(path[:depth])
        if isinstance(
            model.get_submodule(above), (nn.Sequential, nn.ModuleList)
        ):
            yield above


def compare(
    model: nn.Module,
    stage: Stage,
    responses: Mapping[str, Tensor],
    step: Callable[[], None] = lambda: None,
) -> None:
    """Fill in the pairs of a stage.

    Args:
        model: The plain model with its trained weights.
        stage: One of :func:`stages`.
        responses: As of :func:`record`; may be empty.
        step: Called after each pair.
    """
    state = model.state_dict()
    widths = [w for block in hidden_widths(model).values() for w in block]
    for i, first in enumerate(stage.convs):
        for second in stage.convs[i + 1 :]:
            kernels = [state[f'{name}.weight'] for name in (first, second)]
            best = []
            for child, parent in ((first, second), (second, first)):
                touching = [
                    w for w in widths if {child, parent} & set(w.layers)
                ]
                moved = {
                    key: value
                    for key, value in state.items()
                    if key.rpartition('.')[0]
                    in {name for w in touching for name in w.layers}
                    | {child, parent}
                }
                before = _explained(moved, child, parent)
                align(moved, [(child, parent)], touching)
                best.append((_explained(moved, child, parent), before, parent))
            aligned, _, parent = max(best)
            stage.pairs.append(
                Pair(
                    first,
                    second,
                    cka(*(_taps_by_filters(kernel) for kernel in kernels)),
                    max(before for _, before, _ in best) ** 0.5,
                    aligned**0.5,
                    parent,
                    cka(responses[first], responses[second])
                    if first in responses and second in responses
                    else None,
                )
            )
            step()


def _explained(state: Mapping[str, Tensor], child: str, parent: str) -> float:
    fit = fit_modulation(state[f'{child}.weight'], state[f'{parent}.weight'])
    return max(0.0, 1 - fit.error**2)


def _taps_by_filters(kernel: Tensor) -> Tensor:
    return kernel.detach().flatten(1).T


def cka(x: Tensor, y: Tensor) -> float:
    """Linear CKA of two sets of features, ``(observations, features)``."""
    x, y = (t.double() - t.double().mean(0) for t in (x, y))
    cross = (y.T @ x).norm() ** 2
    own = (x.T @ x).norm() * (y.T @ y).norm()
    return float(cross / own) if own > 0 else 0.0


def record(
    model: nn.Module,
    names: Iterable[str],
    forward: Callable[[Tensor], object],
    images: Iterable[Tensor],
) -> dict[str, Tensor]:
    """Responses of convs to images, ``(images * cells, C_out)`` by name.

    Args:
        model: The model.
        names: Names of its convs.
        forward: What computes the features of a batch of one image.
        images: Batches of one image.
    """
    seen: dict[str, list[Tensor]] = {name: [] for name in names}

    def note(name: str) -> Callable:
        def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
            cells = F.adaptive_avg_pool2d(output, CELLS)
            seen[name].append(cells.flatten(2).transpose(1, 2).flatten(0, 1))

        return hook

    handles = [
        model.get_submodule(name).register_forward_hook(note(name))
        for name in seen
    ]
    try:
        with torch.no_grad():
            for image in images:
                forward(image)
    finally:
        for handle in handles:
            handle.remove()
    return {name: torch.cat(parts) for name, parts in seen.items() if parts}


def recommend(stage: Stage, size: int = 2) -> list[tuple[str, ...]]:
    """The families of a stage that keep most of its kernels.

    Families of two are a matching of maximum weight (``networkx``); larger
    ones start from those and take in, or join, what is nearest.

    Args:
        stage: With its pairs.
        size: Members of a family.

    Returns:
        Names of the members, the parent last.
    """
    graph = networkx.Graph()
    for pair in stage.pairs:
        graph.add_edge(pair.first, pair.second, weight=pair.explained)
    matched = networkx.max_weight_matching(graph, maxcardinality=True)
    families = [set(edge) for edge in matched]
    left = [{name} for name in graph if not any(name in f for f in families)]
    groups = [*families, *left]

    def nearness(a: set[str], b: set[str]) -> float:
        return float(np.mean([graph[x][y]['weight'] for x in a for y in b]))

    while size > 2:
        joins = [
            (nearness(a, b), i, j)
            for i, a in enumerate(groups)
            for j, b in enumerate(groups[:i])
            if len(a) + len(b) <= size
        ]
        if not joins:
            break
        _, i, j = max(joins)
        groups[j] |= groups.pop(i)
    return [_in_order(stage, group) for group in groups if len(group) > 1]


def _in_order(stage: Stage, members: set[str]) -> tuple[str, ...]:
    """Children in order of depth, then the parent that explains most."""
    votes = dict.fromkeys(members, 0.0)
    for pair in stage.pairs:
        if {pair.first, pair.second} <= members:
            votes[pair.parent] += pair.explained
    parent = max(
        members, key=lambda name: (votes[name], stage.convs.index(name))
    )
    children = [name for name in stage.convs if name in members - {parent}]
    return (*children, parent)


def snippet(
    model: nn.Module, families: Sequence[Sequence[str]], **conv_cfg: object
) -> str:
    """A plan as a piece of a config, one ``conv_cfg`` for each part.

    Args:
        model: The model that the names are of.
        families: Names of members, the parent last.
        **conv_cfg: Further arguments.
    """
    parts: dict[str, list[list[str]]] = {}
    for family in families:
        part = _part(model, family[0])
        parts.setdefault(part, []).append(
            [name.removeprefix(f'{part}.') for name in family]
        )
    config: dict = {}
    for part, listed in parts.items():
        node = config
        for key in part.split('.') if part else []:
            node = node.setdefault(key, {})
        node['conv_cfg'] = dict(type='KernelDNA', **conv_cfg, families=listed)
    return Config(dict(model=config)).pretty_text


def _part(model: nn.Module, name: str) -> str:
    """The outermost module around a layer that takes a ``conv_cfg``."""
    path = name.split('.')
    for depth in range(len(path)):
        part = '.'.join(path[:depth])
        made = inspect.signature(type(model.get_submodule(part)).__init__)
        if 'conv_cfg' in made.parameters:
            return part
    return path[0]
