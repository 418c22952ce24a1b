"""What KernelDNA does to a model, as data."""

from dataclasses import dataclass

from torch import nn

from ..layers import KernelDNALayer
from .grouping import Family
from .linking import list_families, saved_parameters


@dataclass(frozen=True)
class ReportRow:
    """One KernelDNA conv.

    Args:
        name: Name in the model.
        role: ``'free'``, ``'parent'`` or ``'child'``.
        parent: Name of a child's parent, else None.
        shape: ``(C_out, C_in / groups, kh, kw)`` or ``(C_out, C_in)``.
        parameters: Its own parameters, adapter and bias included.
        plain_parameters: Those of the plain conv in its place.
        fit_error: Of a child that plain weights were loaded into: how much
            of its own kernel its family's leaves, relative; else None.
    """

    name: str
    role: str
    parent: str | None
    shape: tuple[int, ...]
    parameters: int
    plain_parameters: int
    fit_error: float | None


@dataclass(frozen=True)
class Report:
    """All KernelDNA convs of a model, its families and its totals.

    Args:
        rows: One for each KernelDNA conv, in order of depth.
        families: As of :func:`list_families`.
        parameters: Parameters of the whole model.
        plain_parameters: Those of the model without KernelDNA.
    """

    rows: tuple[ReportRow, ...]
    families: tuple[Family, ...]
    parameters: int
    plain_parameters: int


def report(model: nn.Module) -> Report:
    """Roles and parameters of every KernelDNA conv of a model."""
    families = list_families(model)
    parents = {
        child.module: family.parent.name
        for family in families
        for child in family.children
    }
    rows = []
    for name, conv in model.named_modules():
        if isinstance(conv, KernelDNALayer):
            own = sum(p.numel() for p in conv.parameters())
            saved = saved_parameters(conv) if conv in parents else 0
            rows.append(
                ReportRow(
                    name,
                    conv.role,
                    parents.get(conv),
                    conv.kernel_shape,
                    own,
                    own + saved,
                    conv.fit_error,
                )
            )
    total = sum(p.numel() for p in model.parameters())
    saved = sum(row.plain_parameters - row.parameters for row in rows)
    return Report(tuple(rows), tuple(families), total, total + saved)
