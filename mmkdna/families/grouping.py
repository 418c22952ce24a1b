"""Group the marked layers of a module tree into families; change nothing.

The rule groups stride-1 layers with equal settings, kernel shape and
``groups``. They must be under the same innermost ``nn.Sequential`` or
``nn.ModuleList`` that holds two of them (a stage, ``fpn_convs``). Families
are cut from its end backwards. If ``families`` lists names, these count.
"""

import difflib
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from torch import nn

from ..errors import BadInput
from .sites import Site, outwards

OUTSIDE = '(outside)'


class Member(NamedTuple):
    """A layer of a family, with its name in the model."""

    name: str
    module: Any


class Family(NamedTuple):
    """One parent and its children, in order of depth."""

    parent: Member
    children: tuple[Member, ...]

    @property
    def members(self) -> tuple[Member, ...]:
        return (self.parent, *self.children)

    def __str__(self) -> str:
        children = ', '.join(name for name, _ in self.children)
        return f'{children} <- {self.parent.name}'


def list_families(model: nn.Module) -> list[Family]:
    """The families that a model has, in order of their first member.

    Returns:
        For each family its parent and children as ``(name, module)``. A
        parent outside of ``model`` has the name ``'(outside)'``.
    """
    # Not isinstance: while a model initialises, members are disguised.
    members = {m: n for n, m in model.named_modules() if 'family' in vars(m)}
    children: dict[nn.Module, list[Member]] = {}
    for layer, name in members.items():
        parent = layer.family.parent
        if parent is not None:
            below = children.setdefault(parent, [])
            if layer is not parent:
                below.append(Member(name, layer))
    return [
        Family(Member(members.get(parent, OUTSIDE), parent), tuple(below))
        for parent, below in children.items()
    ]


def group_families(found: Sequence[Site], last: bool = True) -> list[Family]:
    """The families that are not formed yet, in order of depth.

    Args:
        found: What :func:`~mmkdna.families.sites.sites` returns.
        last: Whether the model is complete. If it is not, layers that
            ``families`` lists may be missing yet.

    Raises:
        BadInput: If a list of sizes does not fit a stage, or listed layers
            are unknown or cannot share a kernel.
    """
    groups = [*_by_rule(found), *_by_name(found, last)]
    groups.sort(key=lambda group: min(map(found.index, group)))
    families = []
    for group in groups:
        for name, _, kind, *_ in group:
            if kind.in_channels < kind.settings.reduction:
                raise BadInput(
                    f'{name}: reduction={kind.settings.reduction}: expected '
                    f'at most its {kind.in_channels} input channels'
                )
        members = [Member(site.name, site.layer) for site in group]
        first = group[0].kind.settings.parent == 'first'
        parent = members.pop(0 if first else -1)
        families.append(Family(parent, tuple(members)))
    return families


def _by_rule(found: Sequence[Site]) -> Iterator[list[Site]]:
    eligible = [
        site
        for site in found
        if site.kind.settings.families is None and not site.obstacles()
    ]
    held = Counter((s, site.kind) for site in eligible for s in site.stages)
    groups: dict[tuple, list[Site]] = {}
    for site in eligible:
        shared = (s for s in site.stages if held[s, site.kind] > 1)
        for stage in itertools.islice(shared, 1):
            groups.setdefault((stage, site.kind), []).append(site)
    for ((name, _), _), members in groups.items():
        # The other layers of the stage may share in a stage inside of it.
        alone = len(members) == 1
        if not alone and not any(site.is_member for site in members):
            yield from _cut(members, name)


def _cut(members: list[Site], stage: str) -> Iterator[list[Site]]:
    """Cut a stage's layers into families, from the end backwards."""
    size, count = members[0].kind.settings.family_size, len(members)
    if size is None:
        sizes = [count]
    elif isinstance(size, int):
        sizes = [size] * (count // size)
    else:
        sizes = list(size)
        if sum(sizes) > count:
            raise BadInput(
                f'{stage or "the model"}: family_size={sizes} asks for '
                f'{sum(sizes)} layers, expected at most the {count} that are '
                'eligible there: ' + ', '.join(m.name for m in members)
            )
    start = count - sum(sizes)
    for size in sizes:
        yield members[start : start + size]
        start += size


def _by_name(found: Sequence[Site], last: bool) -> Iterator[list[Site]]:
    for settings in {s.kind.settings: s for s in found}:
        group = [site for site in found if site.kind.settings == settings]
        plain = [site for site in group if not site.is_member]
        families = settings.families
        if families is None or not plain:
            continue
        names = [name for family in families for name in family]
        tries = {
            prefix: {name: _resolve(prefix + name, plain) for name in names}
            for prefix in _prefixes(plain)
        }
        # The smallest module around the layers in which all names resolve.
        for resolved in tries.values():
            if all(len(layers) == 1 for layers in resolved.values()):
                for family in families:
                    members = [resolved[name][0] for name in family]
                    _check(members, [s for (s,) in resolved.values()])
                    yield members
                break
        else:
            # If some have formed, the names were found in their module.
            if last and plain == group:
                _refuse(tries, plain)


def _prefixes(group: Sequence[Site]) -> list[str]:
    """Prefixes of the modules around all of a group, innermost first."""
    names = [site.name for site in group]
    around = [f'{name}.' if name else '' for name in outwards(names[0])]
    return [p for p in around if all(n.startswith(p) for n in names)]


def _resolve(name: str, group: Sequence[Site]) -> list[Site]:
    """Layers with this name, or inside the module with this name."""
    exact = [site for site in group if site.name == name]
    return exact or [s for s in group if s.name.startswith(f'{name}.')]


def _refuse(tries: Mapping[str, dict], group: Sequence[Site]) -> None:
    """Raise for a name that fails, in the module where most resolve."""
    prefix = max(tries, key=lambda p: sum(map(bool, tries[p].values())))
    inside = [site.name.removeprefix(prefix) for site in group]
    for name, layers in tries[prefix].items():
        if len(layers) != 1:
            near = [site.name for site in layers]
            raise BadInput(
                f'families: {name!r} '
                f'{"holds several layers" if near else "is unknown"}, '
                'expected the name of a layer relative to '
                f'{prefix[:-1] or "the model"}, such as '
                + ', '.join(
                    near or difflib.get_close_matches(name, inside, 3, 0.0)
                )
            )


def _check(members: Sequence[Site], listed: Sequence[Site]) -> None:
    """Raise if the members of a listed family cannot share."""
    first = members[0]
    for site in members:
        if site.obstacle:
            reason = f'cannot share: {site.obstacle}'
        elif listed.count(site) > 1:
            reason = 'is listed twice, expected each layer at most once'
        elif site.kind[:-1] != first.kind[:-1]:
            reason = (
                f'has {site.kind}, expected {first.kind} as {first.name}; '
                'only equal shapes can share a kernel'
            )
        elif site.kind != first.kind:
            reason = (
                f'and {first.name}: one is frozen and one is trained, '
                'expected both to be the same; otherwise what is frozen '
                'would change'
            )
        else:
            continue
        raise BadInput(f'families: {site.name} {reason}')
