"""FDConv: kernels from disjoint groups of Fourier coefficients."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from .base import DynamicConv2d, Squeeze, excite, register

_BANDS = (1 / 16, 1 / 8, 1 / 4)
"""Ends of the frequency bands, in cycles a pixel; the last ends at 1/2."""


@register
class FDConv2d(DynamicConv2d):
    """Frequency dynamic convolution.

    - Fourier disjoint weight: the parameters are the Fourier coefficients of
      the kernel as a ``(kh C_out, kw C_in / groups)`` matrix, in ``experts``
      groups of rising frequency; each image weighs the groups, and one
      inverse transform gives its kernel.
    - Kernel spatial modulation: that kernel is multiplied by a dense factor
      from a 1-d convolution over the channels' means (local branch) and by
      factors for channels, filters and places (global branch).
    - Frequency band modulation: the input is split into four bands, octaves
      below 1/2 cycle a pixel, each scaled at each pixel.

    Source: arXiv 2503.18783, sections 3.1 to 3.3. The paper leaves choices
    open, so results differ from the authors' networks. Here every factor,
    also of the groups, is ``2 * sigmoid``, about 1 at the start. The local
    branch convolves over as many channels as ECA (``|log2(C) / 2 + 1/2|``,
    odd). A band is a square in the frequency plane; a 3 x 3 convolution
    computes its map, one for all channels. The squeeze ends in a ReLU.

    Args:
        *args, **kwargs: As :class:`torch.nn.Conv2d`.
        experts: Number of frequency groups; the paper's default is 64.
        reduction: The squeeze is ``C_in / reduction`` wide, at least 16.
        norm: Norm of the squeeze. ``'BN'`` needs two images a step; ``'LN'``
            does not.
    """

    kind = 'FDConv'
    group: Tensor

    def __init__(
        self,
        *args: Any,
        experts: int = 64,
        reduction: int = 16,
        norm: str | None = 'BN',
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.check_count('experts', experts)
        self.check_attention(reduction, norm)
        cout, cin, *size = self.kernel_shape
        self.matrix_shape = (size[0] * cout, size[1] * cin)
        rows, columns = self.matrix_shape
        self.spectrum = nn.Parameter(torch.empty(rows, columns // 2 + 1, 2))
        group = _frequency_groups(rows, columns, experts)
        self.register_buffer('group', group, persistent=False)
        hidden = max(self.in_channels // reduction, 16)
        self.squeeze = Squeeze(self.in_channels, hidden, norm)
        self.groups_of_frequencies = excite(hidden, experts)
        self.channel = excite(hidden, self.in_channels)
        self.filter = excite(hidden, self.out_channels)
        places = size[0] * size[1]
        self.spatial = None if places == 1 else excite(hidden, places)
        width = round(math.log2(self.in_channels) / 2 + 0.5) // 2 * 2 + 1
        self.local_norm = nn.LayerNorm(self.in_channels)
        factors = self.out_channels // self.groups * places
        self.local = nn.Conv1d(
            1, factors, width, padding=width // 2, bias=False
        )
        self.bands = nn.Conv2d(self.in_channels, len(_BANDS) + 1, 3, padding=1)
        self.init_weights()

    def init_weights(self) -> None:
        """Initialise the kernel like a plain ResNet's, factors at about 1."""
        kernel = torch.empty(self.kernel_shape)
        nn.init.kaiming_normal_(kernel, mode='fan_out')
        matrix = kernel.permute(2, 0, 3, 1).reshape(self.matrix_shape)
        with torch.no_grad():
            self.spectrum.copy_(torch.view_as_real(torch.fft.rfft2(matrix)))
        parts = self.groups_of_frequencies, self.channel, self.filter
        for part in (*parts, self.spatial, self.local, self.bands):
            if part is not None:
                nn.init.normal_(part.weight, std=1e-6)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def kernels(self, x: Tensor, z: Tensor) -> Tensor:
        """One kernel for each image, ``(N, C_out, C_in / groups, kh, kw)``."""
        cout, cin, *size = self.kernel_shape
        share = _factor(_full(self.groups_of_frequencies(z)))
        spectrum = _full(self.spectrum) * share[:, self.group, None]
        spectrum = torch.view_as_complex(spectrum)
        matrices = torch.fft.irfft2(spectrum, s=self.matrix_shape)
        kernels = matrices.view(-1, size[0], cout, size[1], cin)
        kernels = kernels.permute(0, 2, 4, 1, 3)
        descriptor = self.local_norm(x.mean((2, 3)))
        local = _factor(self.local(descriptor[:, None]))
        local = local.view(-1, cout // self.groups, *size, self.groups, cin)
        local = local.permute(0, 4, 1, 5, 2, 3)
        kernels = kernels * local.reshape(x.shape[0], *self.kernel_shape)
        if self.spatial is not None:
            places = _factor(self.spatial(z))
            kernels = kernels * places.view(-1, 1, 1, *size)
        return kernels.to(z.dtype)

    def modulate_bands(self, x: Tensor) -> Tensor:
        """Scale each frequency band of x at each pixel."""
        maps = _factor(self.bands(x))
        height, width = x.shape[2:]
        spectrum = torch.fft.rfft2(_full(x))
        y = torch.fft.fftfreq(height, device=x.device).abs()
        frequency = torch.maximum(
            y[:, None], torch.fft.rfftfreq(width, device=x.device)
        )
        result, below = torch.zeros_like(x), torch.zeros_like(x)
        for end, factor in zip((*_BANDS, None), maps.unbind(1), strict=True):
            up_to = x
            if end is not None:
                low = spectrum * (frequency < end)
                up_to = torch.fft.irfft2(low, s=(height, width)).to(x)
            result = result + (up_to - below) * factor[:, None]
            below = up_to
        return result

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``(N, C_in, H, W)`` to ``(N, C_out, H', W')``."""
        z = self.squeeze(x)
        kernels = self.kernels(x, z)
        channel, filters = _factor(self.channel(z)), _factor(self.filter(z))
        x = self.modulate_bands(x) * channel[..., None, None]
        y = self.convolve_each(x, kernels) * filters[..., None, None]
        return self.add_bias(y)


def _factor(logits: Tensor) -> Tensor:
    return 2 * logits.sigmoid()


def _full(x: Tensor) -> Tensor:
    """Cast half to float32: a CPU has no Fourier transform of half."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _frequency_groups(rows: int, columns: int, count: int) -> Tensor:
    """The group of each coefficient ``(rows, columns // 2 + 1)``.

    Groups are of equal size, up to one coefficient, in order of the distance
    from frequency 0.
    """
    distance = torch.hypot(
        torch.fft.fftfreq(rows)[:, None], torch.fft.rfftfreq(columns)
    )
    rank = distance.flatten().argsort(stable=True).argsort()
    group = rank * count // rank.numel()
    return group.view(distance.shape)
