"""Static modulation that makes a parent's kernel most like a given one.

``W ~ W_p * (1 + s) * (1 + f)`` in the least-squares sense (the modulation is
that of KernelDNA, arXiv 2503.23379, method section; the fit is ours).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

ROUNDS = 20


@dataclass(frozen=True)
class Fit:
    """What :func:`fit_modulation` found.

    Args:
        filter: f, ``(C_out, 1, 1, 1)`` or ``(C_out, 1)``, as the adapter's.
        spatial: s, ``(1, 1, kh, kw)``; None for a pointwise kernel.
        error: ``|W - W_fit| / |W|``, 0 for a perfect fit, 1 for none.
    """

    filter: Tensor
    spatial: Tensor | None
    error: float

    def kernel(self, parent: Tensor) -> Tensor:
        """W_fit, of the shape and dtype of the parent's kernel."""
        factor = 1 + self.filter
        if self.spatial is not None:
            factor = factor * (1 + self.spatial)
        return parent * factor.to(parent)


def fit_modulation(kernel: Tensor, parent: Tensor) -> Fit:
    """Fit s and f by alternating closed forms.

    Either half has a closed form for the other one given; each step lowers
    the error. The scale that the halves could trade is fixed by a mean square
    of ``1 + s`` of 1.

    Args:
        kernel: The kernel to explain, ``(C_out, C_in / groups, kh, kw)`` or
            ``(C_out, C_in)``.
        parent: The parent's, of the same shape.
    """
    cross, energy, total = _moments(kernel, parent)
    rows, taps = cross.shape
    along = torch.ones(taps, dtype=cross.dtype, device=cross.device)
    out = _ratio(cross @ along, energy @ along**2)
    if taps > 1:
        for _ in range(ROUNDS):
            along = _ratio(out @ cross, out**2 @ energy)
            # A child that its parent explains nothing of keeps s at zero.
            norm = along.square().mean().sqrt()
            along = along / norm if norm > 0 else torch.ones_like(along)
            out = _ratio(cross @ along, energy @ along**2)
    explained = (2 * out * (cross @ along)).sum()
    explained = explained - (out**2 * (energy @ along**2)).sum()
    left = max(0.0, float(total - explained))
    size = kernel.shape[2:]
    return Fit(
        filter=(out - 1).view(rows, 1, *[1] * len(size)).to(kernel),
        spatial=(along - 1).view(1, 1, *size).to(kernel) if taps > 1 else None,
        error=math.sqrt(left / float(total)) if total > 0 else 0.0,
    )


def _moments(kernel: Tensor, parent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``sum_i W P`` and ``sum_i P P``, ``(C_out, kh * kw)``; ``|W|^2``."""
    kernel, parent = (
        t.detach().flatten(2).double()
        if t.dim() > 2
        else t.detach()[..., None].double()
        for t in (kernel, parent)
    )
    return (
        (kernel * parent).sum(1),
        (parent * parent).sum(1),
        kernel.square().sum(),
    )


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """``above / below``, and 0 where the parent is zero."""
    return torch.where(below > 0, above / below.clamp_min(1e-300), 0.0)
