"""The families of a model, and what they save, as data."""

import math
from dataclasses import dataclass

from torch import nn

from ..layers import KernelDNALayer
from .grouping import Family, Member

OUTSIDE = '(outside)'


def list_families(model: nn.Module) -> list[Family]:
    """The families of a model, in order of their first member.

    Returns:
        For each family its parent and children as ``(name, module)``; a
        parent that is no part of ``model`` is named ``'(outside)'``.
    """
    members = {
        module: name
        for name, module in model.named_modules()
        # By what it has: while a model initialises, members are disguised.
        if 'family' in vars(module)
    }
    children: dict[nn.Module, list[Member]] = {}
    for layer, name in members.items():
        parent = layer.family.parent
        if layer is parent:
            children.setdefault(layer, [])
        elif parent is not None:
            children.setdefault(parent, []).append(Member(name, layer))
    return [
        Family(Member(members.get(parent, OUTSIDE), parent), tuple(below))
        for parent, below in children.items()
    ]


@dataclass(frozen=True)
class ReportRow:
    """One member of a family.

    Args:
        name: Name in the model.
        role: ``'parent'`` or ``'child'``.
        parent: Name of a child's parent, else None.
        shape: ``(C_out, C_in / groups, kh, kw)`` or ``(C_out, C_in)``.
        parameters: Its own parameters, adapter and bias included.
        plain_parameters: Those of the plain layer in its place.
    """

    name: str
    role: str
    parent: str | None
    shape: tuple[int, ...]
    parameters: int
    plain_parameters: int


@dataclass(frozen=True)
class Report:
    """The families of a model and its totals.

    Args:
        rows: One for each member, in order of depth.
        families: As of :func:`list_families`.
        parameters: Parameters of the whole model.
        plain_parameters: Those of the model without KernelDNA.
    """

    rows: tuple[ReportRow, ...]
    families: tuple[Family, ...]
    parameters: int
    plain_parameters: int

    @property
    def summary(self) -> str:
        """One line for the log."""
        children = sum(len(family.children) for family in self.families)
        change = self.parameters / self.plain_parameters - 1
        return (
            f'KernelDNA: {len(self.families)} families, {children} children; '
            f'{self.parameters:,} parameters instead of '
            f'{self.plain_parameters:,} ({change:+.1%})'
        )


def report(model: nn.Module) -> Report:
    """Roles and parameters of every member of a family."""
    families = list_families(model)
    parents = {
        child.module: family.parent.name
        for family in families
        for child in family.children
    }
    rows = []
    for name, layer in model.named_modules():
        if isinstance(layer, KernelDNALayer):
            own = plain = sum(p.numel() for p in layer.parameters())
            if layer.adapter is not None:
                plain += math.prod(layer.kernel_shape)
                plain -= sum(p.numel() for p in layer.adapter.parameters())
            rows.append(
                ReportRow(
                    name,
                    layer.role,
                    parents.get(layer),
                    layer.kernel_shape,
                    own,
                    plain,
                )
            )
    total = sum(p.numel() for p in model.parameters())
    saved = sum(row.plain_parameters - row.parameters for row in rows)
    return Report(tuple(rows), tuple(families), total, total + saved)
