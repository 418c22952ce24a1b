"""How many parameters the families of a model save, as data."""

from dataclasses import dataclass

from torch import nn

from .families import Family, list_families
from .layers import KernelDNALayer


@dataclass(frozen=True)
class ReportRow:
    """One member of a family.

    Args:
        name: Name in the model.
        role: ``'parent'`` or ``'child'``.
        parent: Name of a child's parent, else None.
        shape: ``(C_out, C_in / groups, kh, kw)`` or ``(C_out, C_in)``.
        parameters: Parameters of the member, with adapter and bias.
        plain_parameters: Parameters of the plain layer in its place.
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
        families: As :func:`list_families` returns them.
        parameters: Parameters of the whole model.
        plain_parameters: Parameters of the model without KernelDNA.
    """

    rows: tuple[ReportRow, ...]
    families: tuple[Family, ...]
    parameters: int
    plain_parameters: int

    def __str__(self) -> str:
        children = len(self.rows) - len(self.families)
        change = self.parameters / self.plain_parameters - 1
        return (
            f'KernelDNA: {len(self.families)} families, {children} children; '
            f'{self.parameters:,} parameters instead of '
            f'{self.plain_parameters:,} ({change:+.1%})'
        )


def report(model: nn.Module) -> Report:
    """Roles and parameters of every member of a family."""
    families = tuple(list_families(model))
    parents = {
        child.module: family.parent.name
        for family in families
        for child in family.children
    }
    rows = []
    for name, layer in model.named_modules():
        if isinstance(layer, KernelDNALayer):
            own = sum(p.numel() for p in layer.parameters())
            known = name, layer.role, parents.get(layer), layer.kernel_shape
            rows.append(ReportRow(*known, own, own + layer.saved))
    total = sum(p.numel() for p in model.parameters())
    saved = sum(row.plain_parameters - row.parameters for row in rows)
    return Report(tuple(rows), families, total, total + saved)
