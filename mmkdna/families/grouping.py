"""From the marked layers of a module tree to families; touches nothing.

The rule: stride-1 layers of equal settings, one kernel shape and one
``groups``, under the same innermost ``nn.Sequential`` or ``nn.ModuleList``
that holds at least two of them (a stage, ``fpn_convs``, ``cls_convs``), cut
into families from the end backwards. Or the names that ``families`` lists.
"""

import difflib
import os.path as osp
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import BadInput
from ..layers import Settings
from .sites import Site


class Member(NamedTuple):
    """A layer of a family under its name in the model."""

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


def group_families(found: Sequence[Site], last: bool = True) -> list[Family]:
    """The families that are not formed yet, in order of depth.

    Args:
        found: As of :func:`~mmkdna.families.sites.sites`.
        last: Whether no larger module comes; a smaller one may not hold all
            of the layers that ``families`` lists.

    Raises:
        BadInput: If a list of sizes does not fit a stage, or listed layers
            are unknown or cannot share a kernel.
    """
    groups = [
        members
        for members in (*_by_rule(found), *_by_name(found, last))
        if not any(site.is_member for site in members)
    ]
    order = {id(site): i for i, site in enumerate(found)}
    groups.sort(key=lambda group: min(order[id(site)] for site in group))
    for group in groups:
        for site in group:
            if site.in_channels < site.settings.reduction:
                raise BadInput(
                    f'{site.name}: reduction={site.settings.reduction}: '
                    f'expected at most its {site.in_channels} input channels'
                )
    return [_family(group) for group in groups]


def _family(group: Sequence[Site]) -> Family:
    """Make the first or last one, as the settings say, the parent."""
    members = [Member(site.name, site.layer) for site in group]
    index = 0 if group[0].settings.parent == 'first' else -1
    parent = members.pop(index)
    return Family(parent, tuple(members))


def _by_rule(found: Sequence[Site]) -> Iterator[list[Site]]:
    eligible = [
        site
        for site in found
        if site.settings.families is None and not site.obstacles()
    ]
    held = Counter(
        (stage, site.kind) for site in eligible for _, stage in site.stages
    )
    stages: dict[tuple, list[Site]] = {}
    names: dict[tuple, str] = {}
    for site in eligible:
        for name, stage in site.stages:
            key = (stage, site.kind)
            if held[key] > 1:
                stages.setdefault(key, []).append(site)
                names[key] = name
                break
    for key, members in stages.items():
        if not any(site.is_member for site in members):
            yield from _cut(members, names[key])


def _cut(members: list[Site], stage: str) -> Iterator[list[Site]]:
    """Cut a stage's layers into families, from the end backwards."""
    size, count = members[0].settings.family_size, len(members)
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
    explicit: dict[Settings, list[Site]] = {}
    for site in found:
        if site.settings.families is not None:
            explicit.setdefault(site.settings, []).append(site)
    for settings, group in explicit.items():
        if any(site.is_member for site in group):
            continue
        families = settings.families or ()
        names = [name for family in families for name in family]
        prefix = _smallest(names, group)
        if prefix is None:
            if last:
                _explain(names, group)
            continue
        listed = {name: _resolve(prefix, name, group)[0] for name in names}
        for family in families:
            members = [listed[name] for name in family]
            _check(members, list(listed.values()))
            yield members


def _smallest(names: Sequence[str], group: Sequence[Site]) -> str | None:
    """The smallest module around the layers in which all names resolve."""
    for prefix in _outwards(group):
        if all(len(_resolve(prefix, name, group)) == 1 for name in names):
            return prefix
    return None


def _outwards(group: Sequence[Site]) -> Iterator[str]:
    """What is around all layers of a group, as prefixes, innermost first."""
    paths = [site.name.replace('.', '/') for site in group]
    around = osp.commonpath(paths) if paths != [''] else ''
    if around in paths:
        around = osp.dirname(around)
    while around:
        yield around.replace('/', '.') + '.'
        around = osp.dirname(around)
    yield ''


def _resolve(prefix: str, name: str, group: Sequence[Site]) -> list[Site]:
    """A layer by its name, or by the name of the one module around it."""
    exact = [site for site in group if site.name == prefix + name]
    inside = f'{prefix}{name}.'
    return exact or [site for site in group if site.name.startswith(inside)]


def _explain(names: Sequence[str], group: Sequence[Site]) -> None:
    """Raise for the name that stands in the way, where most resolve."""

    def resolved(prefix: str) -> int:
        return sum(len(_resolve(prefix, name, group)) > 0 for name in names)

    prefix = max(_outwards(group), key=resolved)
    for name in names:
        inside = [s.name.removeprefix(prefix) for s in group]
        several = [s.name for s in _resolve(prefix, name, group)]
        if len(several) != 1:
            near = several or difflib.get_close_matches(name, inside, 3, 0.0)
            raise BadInput(
                f'families: {name!r} '
                f'{"holds several layers" if several else "is unknown"}, '
                'expected the name of a layer relative to '
                f'{prefix[:-1] or "the model"}, such as ' + ', '.join(near)
            )


def _check(members: Sequence[Site], listed: Sequence[Site]) -> None:
    """Raise where some of the listed layers cannot be a family."""
    first = members[0]
    for site in members:
        if site.obstacle:
            raise BadInput(f'families: {site.name}: {site.obstacle}')
        if listed.count(site) > 1:
            raise BadInput(
                f'families: {site.name} is listed twice, expected each layer '
                'at most once'
            )
        if site.kind[:4] != first.kind[:4]:
            raise BadInput(
                f'families: {site.name} has {_shape(site)}, expected '
                f'{_shape(first)} as {first.name}; only equal shapes can '
                'share a kernel'
            )
        if site.kind != first.kind:
            raise BadInput(
                f'families: of {site.name} and {first.name} one is frozen and '
                'one is trained, expected both to be the same; otherwise what '
                'is frozen would change'
            )


def _shape(site: Site) -> str:
    kernel = 'x'.join(map(str, site.size))
    return (
        f'{site.in_channels} -> {site.shape[0]} channels, kernel {kernel}, '
        f'groups {site.groups}'
    )


def near_misses(found: Sequence[Site]) -> Mapping[tuple[str, str], str]:
    """Why no family formed where settings are, by owner and settings."""
    groups: dict[tuple[str, str], list[Site]] = {}
    for site in found:
        groups.setdefault((site.owner, str(site.settings)), []).append(site)
    return {
        owner: '; '.join(_nearest(group))
        for owner, group in groups.items()
        if not any(site.is_member for site in group)
    }


def _nearest(found: Sequence[Site], most: int = 3) -> list[str]:
    kinds = Counter(site.kind for site in found if not site.obstacles())

    def reason(site: Site) -> str:
        size = site.settings.family_size
        if site.settings.families is not None:
            return 'none of the names in families'
        if obstacles := site.obstacles():
            return ', '.join(obstacles)
        if kinds[site.kind] == 1:
            return 'the only one of its shape'
        if isinstance(size, int) and kinds[site.kind] < size:
            return f'fewer than family_size={size} of its shape'
        return (
            f'one of {kinds[site.kind]} of its shape, but no nn.Sequential or '
            'nn.ModuleList holds enough of them; list them in families=[[...]]'
        )

    def distance(site: Site) -> tuple[int, int]:
        return len(site.obstacles()), -site.channels

    return [
        f'{site.name or "the layer"}: {reason(site)}'
        for site in sorted(found, key=distance)[:most]
    ]
