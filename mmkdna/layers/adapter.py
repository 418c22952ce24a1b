"""The adapter that turns a parent's kernel into a child's.

Source: KernelDNA, arXiv 2503.23379, method section: static modulation of the
kernel and input-dependent channel routing, decoupled.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import BadInput
from .norm import NORMS


def modulate(
    kernel: Tensor, filter: Tensor, spatial: Tensor | None = None
) -> Tensor:
    """A child's kernel, ``W_p * (1 + f) * (1 + s)``.

    Args:
        kernel: The parent's W_p, ``(C_out, C_in / groups, kh, kw)`` or
            ``(C_out, C_in)``.
        filter: f, ``(C_out, 1, 1, 1)`` or ``(C_out, 1)``.
        spatial: s, ``(1, 1, kh, kw)``; None for a 1 x 1 kernel.
    """
    factor = 1 + filter
    if spatial is not None:
        # Small factors first, so the kernel is read and written only once.
        factor = factor * (1 + spatial)
    return kernel * factor


class StaticModulation(nn.Module):
    """The part that does not depend on the input: see :func:`modulate`.

    ``filter`` and ``spatial`` start at zero, so a child starts as its parent.

    Args:
        kernel_shape: ``(C_out, C_in / groups, kh, kw)`` or ``(C_out, C_in)``.
    """

    derive = staticmethod(modulate)
    """The pure function of a parent's kernel and :meth:`sources`."""

    def __init__(self, kernel_shape: Sequence[int]):
        super().__init__()
        out_channels, _, *size = kernel_shape
        ones = [1] * len(size)
        self.filter = nn.Parameter(torch.zeros(out_channels, 1, *ones))
        self.spatial: nn.Parameter | None = None
        if math.prod(size) > 1:
            self.spatial = nn.Parameter(torch.zeros(1, 1, *size))

    def reset_parameters(self) -> None:
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def sources(self) -> tuple[Tensor, ...]:
        """The arguments of :attr:`derive` after the parent's kernel."""
        return tuple(p for p in (self.filter, self.spatial) if p is not None)

    def forward(self, kernel: Tensor) -> Tensor:
        """Derive the child's kernel; it has the shape of the parent's."""
        return self.derive(kernel, *self.sources())


class DynamicRouting(nn.Module):
    """Squeeze-and-excite on a child's input: a gate for each channel.

    Args:
        channels: C_in of the child.
        reduction: The squeeze is ``channels // reduction`` wide.
        norm: ``'LN'``, ``'BN'`` or None. BN normalises over the images of a
            batch, so it needs two or more images in training.
        gate: ``'identity'``: ``2 * sigmoid``, exactly 1 at the start;
            ``'sigmoid'``: the authors' gate.
    """

    # 2: ``excite_bias`` became ``bias``, for mmengine's bias_decay_mult.
    _version = 2

    def __init__(
        self, channels: int, reduction: int, norm: str | None, gate: str
    ):
        super().__init__()
        squeezed = channels // reduction
        self.identity_gate = gate == 'identity'
        # Parameters, not nn.Linear: an init_cfg for a model's Linear layers
        # would overwrite the gate's start.
        self.squeeze = nn.Parameter(torch.empty(squeezed, channels))
        self.excite = nn.Parameter(torch.empty(channels, squeezed))
        self.bias = nn.Parameter(torch.empty(channels))
        self.norm: Any = NORMS[norm](squeezed)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As nn.Linear, but the identity gate's excite starts at zero."""
        squeezed, channels = self.squeeze.shape
        _as_linear(self.squeeze, channels)
        for tensor in (self.excite, self.bias):
            if self.identity_gate:
                nn.init.zeros_(tensor)
            else:
                _as_linear(tensor, squeezed)
        if not isinstance(self.norm, nn.Identity):
            self.norm.reset_parameters()

    def is_open(self) -> bool:
        """Whether the gate is exactly 1 for every input."""
        moved = self.excite.any() or self.bias.any()
        return self.identity_gate and not moved

    def forward(self, pooled: Tensor) -> Tensor:
        """The gate, of the shape of ``pooled``.

        Args:
            pooled: Mean over an input's pixels: ``(N, C_in)`` or ``(C_in,)``.
        """
        z = self.norm(F.linear(pooled, self.squeeze)).relu()
        gate = F.linear(z, self.excite, self.bias).sigmoid()
        return 2 * gate if self.identity_gate else gate

    def _load_from_state_dict(
        self, state_dict: dict, prefix: str, metadata: dict, *args: Any
    ) -> None:
        check_version(prefix[:-1], metadata.get('version'))
        old = f'{prefix}excite_bias'
        if old in state_dict:
            state_dict[f'{prefix}bias'] = state_dict.pop(old)
        super()._load_from_state_dict(state_dict, prefix, metadata, *args)


def check_version(what: str, version: object) -> None:
    """Refuse a state dict of a later version; None is an early one.

    Raises:
        BadInput: If this code does not know its version.
    """
    if isinstance(version, int) and version > DynamicRouting._version:
        raise BadInput(
            f'{what} is of version {version} of the adapters, this mmkdna '
            f'knows {DynamicRouting._version}: use a later mmkdna'
        )


def _as_linear(tensor: Tensor, fan_in: int) -> None:
    bound = max(fan_in, 1) ** -0.5
    nn.init.uniform_(tensor, -bound, bound)


class Adapter(nn.Module):
    """Static modulation and routing: ``conv2d(x * g(x), W_c)``.

    Args:
        in_channels: C_in of the child.
        kernel_shape: As in :class:`StaticModulation`.
        reduction, norm, gate: As in :class:`DynamicRouting`.
    """

    def __init__(
        self,
        in_channels: int,
        kernel_shape: Sequence[int],
        reduction: int,
        norm: str | None,
        gate: str,
    ):
        super().__init__()
        self.static = StaticModulation(kernel_shape)
        self.routing = DynamicRouting(in_channels, reduction, norm, gate)

    def reset_parameters(self) -> None:
        """Reset the modulation and the routing."""
        self.static.reset_parameters()
        self.routing.reset_parameters()


@functools.cache
def adapter_size(*args: Any) -> int:
    """How many parameters an :class:`Adapter` of these arguments has."""
    with torch.device('meta'):
        return sum(p.numel() for p in Adapter(*args).parameters())
