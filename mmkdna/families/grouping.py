"""From a built module tree to a list of families; touches nothing.

The rule: stride-1 convs of one policy, one kernel shape and one ``groups``,
under the same innermost ``nn.Sequential`` or ``nn.ModuleList`` that holds at
least two of them (a stage, ``fpn_convs``, ``cls_convs``), cut into families
from the end backwards. Or the names that ``families`` lists.
"""

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

from ..layers import KernelDNALayer, Policy
from .sites import ConvSite


class Member(NamedTuple):
    """A conv of a family under its name in the model."""

    name: str
    module: KernelDNALayer


@dataclass(frozen=True)
class Family:
    """One parent and its children, in order of depth."""

    parent: Member
    children: tuple[Member, ...]

    @property
    def members(self) -> tuple[Member, ...]:
        return (self.parent, *self.children)

    def __str__(self) -> str:
        children = ', '.join(name for name, _ in self.children)
        return f'{children} <- {self.parent.name}'


def group_families(sites: Sequence[ConvSite]) -> list[Family]:
    """The families that are not formed yet, in order of depth.

    Args:
        sites: As of :func:`conv_sites`.

    Raises:
        ValueError: If a list of sizes does not fit a container, or convs
            listed for one family cannot share a kernel.
        KeyError: If ``families`` lists an unknown name.
    """
    families = [*_by_rule(sites), *_by_name(sites)]
    order = {id(site.conv): i for i, site in enumerate(sites)}
    families.sort(key=lambda f: min(order[id(m)] for _, m in f.members))
    for family in families:
        _check_reduction(family)
    return families


def near_misses(sites: Sequence[ConvSite]) -> dict[tuple[str, Policy], str]:
    """Why no family forms under a ``conv_cfg``, for those where none does.

    Args:
        sites: As of :func:`conv_sites`, families linked.

    Returns:
        For each owner's name and policy, the nearest misses in words.
    """
    by_owner: dict[tuple[str, Policy], list[ConvSite]] = {}
    for site in sites:
        by_owner.setdefault((site.owner, site.policy), []).append(site)
    return {
        owner: '; '.join(_nearest(group))
        for owner, group in by_owner.items()
        if not any(site.is_linked for site in group)
    }


def _nearest(sites: Sequence[ConvSite], most: int = 3) -> list[str]:
    kinds = Counter(site.kind for site in sites if not site.obstacles())

    def reason(site: ConvSite) -> str:
        size = site.policy.family_size
        if found := site.obstacles():
            return ', '.join(found)
        if isinstance(size, int) and 1 < kinds[site.kind] < size:
            return f'fewer than family_size={size} of its shape in its stage'
        return 'alone with its shape in its stage'

    def distance(site: ConvSite) -> tuple[int, int]:
        return len(site.obstacles()), -site.channels

    return [
        f'{site.name or "the conv"}: {reason(site)}'
        for site in sorted(sites, key=distance)[:most]
    ]


def _by_rule(sites: Sequence[ConvSite]) -> list[Family]:
    eligible = [
        site
        for site in sites
        if site.policy.families is None and not site.obstacles()
    ]
    held = Counter(
        (container, site.kind)
        for site in eligible
        for _, container in site.containers
    )
    stages: dict[tuple, list[ConvSite]] = {}
    names: dict[tuple, str] = {}
    for site in eligible:
        for name, container in site.containers:
            stage = (container, site.kind)
            if held[stage] > 1:
                stages.setdefault(stage, []).append(site)
                names[stage] = name
                break
    return [
        _family(members)
        for stage, members in stages.items()
        if not any(site.is_linked for site in members)
        for members in _cut(members, names[stage])
    ]


def _cut(members: list[ConvSite], container: str) -> list[list[ConvSite]]:
    """Cut a container's convs into families, from the end backwards."""
    size, count = members[0].policy.family_size, len(members)
    if count < 2:
        return []
    if size is None:
        return [members]
    if isinstance(size, int):
        sizes = [size] * (count // size)
    else:
        sizes = list(size)
        if sum(sizes) > count:
            raise ValueError(
                f'{container or "the model"}: family_size={sizes} asks for '
                f'{sum(sizes)} convs, expected at most the {count} that are '
                'eligible there: ' + ', '.join(m.name for m in members)
            )
    families, start = [], count - sum(sizes)
    for size in sizes:
        families.append(members[start : start + size])
        start += size
    return families


def _family(members: Sequence[ConvSite]) -> Family:
    """Make the first or last one, as the policy says, the parent."""
    # What may be shared was built as ours, see kernel_dna_conv.
    as_members = [
        Member(site.name, cast(KernelDNALayer, site.conv)) for site in members
    ]
    index = 0 if members[0].policy.parent == 'first' else -1
    parent = as_members.pop(index)
    return Family(parent, tuple(as_members))


def _by_name(sites: Sequence[ConvSite]) -> list[Family]:
    explicit: dict[tuple[str, Policy], list[ConvSite]] = {}
    for site in sites:
        if site.policy.families is not None:
            explicit.setdefault((site.owner, site.policy), []).append(site)
    return [
        _family(members)
        for (owner, policy), group in explicit.items()
        if not any(site.is_linked for site in group)
        for members in _listed(policy.families or (), owner, group)
    ]


def _listed(
    families: Sequence[Sequence[str]], owner: str, sites: Sequence[ConvSite]
) -> list[list[ConvSite]]:
    """The sites of the families that one ``conv_cfg`` lists, checked."""
    prefix = f'{owner}.' if owner else ''
    by_name = {site.name.removeprefix(prefix): site for site in sites}
    used: set[str] = set()
    listed = []
    for names in families:
        members = [_resolve(name, by_name, owner) for name in names]
        for name, site in zip(names, members, strict=True):
            if site.name in used:
                raise ValueError(
                    f'families: {prefix}{name} is listed twice, expected '
                    'each layer at most once'
                )
            used.add(site.name)
            if site.owns_no_weight:
                raise ValueError(
                    f'families: the weight of {prefix}{name} is parametrised, '
                    'expected a conv with a weight of its own; switch its '
                    'spectral norm off'
                )
            if site.kind != members[0].kind:
                raise ValueError(
                    f'families: {prefix}{name} has {_shape(site)}, expected '
                    f'{_shape(members[0])} as {prefix}{names[0]}; only equal '
                    'shapes can share a kernel'
                )
        listed.append(members)
    return listed


def _resolve(
    name: str, by_name: Mapping[str, ConvSite], owner: str
) -> ConvSite:
    """A conv by its name or by the name of the one module around it."""
    if name in by_name:
        return by_name[name]
    inside = [
        site for key, site in by_name.items() if key.startswith(f'{name}.')
    ]
    if len(inside) == 1:
        return inside[0]
    near = (
        difflib.get_close_matches(name, by_name, 3, cutoff=0.0)
        if not inside
        else [site.name for site in inside]
    )
    problem = 'holds several convs' if inside else 'is unknown'
    raise KeyError(
        f'families: {name!r} {problem}, expected the name of a conv relative '
        f'to {owner or "the model"}, such as ' + ', '.join(near)
    )


def _shape(site: ConvSite) -> str:
    conv = site.conv
    kernel = 'x'.join(map(str, conv.kernel_size))
    return (
        f'{conv.in_channels} -> {conv.out_channels} channels, kernel '
        f'{kernel}, groups {conv.groups}'
    )


def _check_reduction(family: Family) -> None:
    for name, conv in family.children:
        if conv.in_channels < conv.policy.reduction:
            raise ValueError(
                f'{name}: reduction={conv.policy.reduction}, expected at most '
                f'its {conv.in_channels} input channels'
            )
