"""The adapter that turns a parent's kernel into a child's.

Source: KernelDNA, arXiv 2503.23379, method section: static modulation of the
kernel and input-dependent channel routing, decoupled.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class StaticModulation(nn.Module):
    """``W_c = W_p * (1 + s) * (1 + f)``, independent of the input.

    ``spatial`` s is ``(1, 1, kh, kw)`` and None for a 1 x 1 kernel,
    ``filter`` f is ``(C_out, 1, 1, 1)``; both start at zero, so the child
    starts as its parent.

    Args:
        out_channels: C_out.
        kernel_size: ``(kh, kw)``.
    """

    def __init__(self, out_channels: int, kernel_size: tuple[int, int]):
        super().__init__()
        self.filter = nn.Parameter(torch.zeros(out_channels, 1, 1, 1))
        if max(kernel_size) > 1:
            self.spatial = nn.Parameter(torch.zeros(1, 1, *kernel_size))
        else:
            self.register_parameter('spatial', None)

    def init_weights(self) -> None:
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def forward(self, kernel: Tensor) -> Tensor:
        """Modulate a kernel ``(C_out, C_in / groups, kh, kw)``."""
        factor = 1 + self.filter
        if self.spatial is not None:
            # The small factors first: the kernel is read and written once.
            factor = factor * (1 + self.spatial)
        return kernel * factor


class DynamicRouting(nn.Module):
    """Squeeze-and-excite over a child's input: a gate for each channel.

    Args:
        channels: C_in of the child.
        reduction: The squeeze is ``channels // reduction`` wide.
        norm: ``'LN'``, ``'BN'`` or None. BN normalises over the images of a
            batch, and so needs two or more of them while training.
        gate: ``'identity'``: ``2 * sigmoid``, exactly 1 at the start;
            ``'sigmoid'``: as the authors.

    Raises:
        ValueError: If ``reduction`` leaves no channel.
    """

    def __init__(
        self, channels: int, reduction: int, norm: str | None, gate: str
    ):
        super().__init__()
        squeezed = channels // reduction
        if squeezed < 1:
            raise ValueError(
                f'reduction={reduction}: expected at most the '
                f"conv's {channels} input channels"
            )
        self.identity_gate = gate == 'identity'
        # Parameters, not nn.Linear: an init_cfg for the Linear layers of a
        # model would move the gate from its start.
        self.squeeze = nn.Parameter(torch.empty(squeezed, channels))
        self.excite = nn.Parameter(torch.empty(channels, squeezed))
        self.excite_bias = nn.Parameter(torch.empty(channels))
        self.norm = {
            'LN': nn.LayerNorm,
            'BN': nn.BatchNorm1d,
            None: nn.Identity,
        }[norm](squeezed)
        self.init_weights()

    def init_weights(self) -> None:
        """As nn.Linear; for the identity gate, the excite at zero."""
        nn.init.kaiming_uniform_(self.squeeze, a=math.sqrt(5))
        if not isinstance(self.norm, nn.Identity):
            self.norm.reset_parameters()
        if self.identity_gate:
            nn.init.zeros_(self.excite)
            nn.init.zeros_(self.excite_bias)
        else:
            nn.init.kaiming_uniform_(self.excite, a=math.sqrt(5))
            bound = self.excite.shape[1] ** -0.5
            nn.init.uniform_(self.excite_bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """Gate ``(N, C_in, 1, 1)`` of an input ``(N, C_in, H, W)``."""
        z = self.norm(F.linear(x.mean((2, 3)), self.squeeze)).relu()
        gate = F.linear(z, self.excite, self.excite_bias).sigmoid()
        if self.identity_gate:
            gate = 2 * gate
        return gate[..., None, None]


class Adapter(nn.Module):
    """Both halves; a child conv computes ``conv2d(x * g(x), W_c)``.

    Args:
        in_channels: C_in of the child.
        out_channels: C_out of the child.
        kernel_size: ``(kh, kw)``.
        reduction, norm, gate: As in :class:`DynamicRouting`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, int],
        reduction: int = 4,
        norm: str | None = 'LN',
        gate: str = 'identity',
    ):
        super().__init__()
        self.static = StaticModulation(out_channels, kernel_size)
        self.routing = DynamicRouting(in_channels, reduction, norm, gate)

    def init_weights(self) -> None:
        self.static.init_weights()
        self.routing.init_weights()
