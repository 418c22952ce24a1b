"""What the dynamic convolutions have in common."""

import difflib
import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..errors import is_int
from ..layers.norm import NORMS
from .geometry import CONV2D, GEOMETRY, Geometry, plain_conv

_IMAGE_CHANNELS = 4


class DynamicConv2d(Geometry, nn.Module):
    """A 2-d convolution whose kernel depends on the image.

    Args:
        *args, **kwargs: As :class:`torch.nn.Conv2d`.

    Attributes:
        temperature: Of the attention, a buffer ``()``; at its last value
            unless :class:`TemperatureHook` moves it.
    """

    kind: ClassVar[str]
    """Its name as a conv layer type."""
    in_shortcuts: ClassVar[bool] = False
    """Whether the published networks have it in a block's shortcut too."""
    temperatures: ClassVar[tuple[float, float] | None] = None
    """The first and the last temperature; None where there is none."""
    temperature: Tensor

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        plain = plain_conv(self.kind, *args, **kwargs)
        self.take_geometry(plain)
        self.kernel_shape = tuple(plain.weight.shape)
        if self.temperatures is not None:
            self.register_buffer(
                'temperature', torch.tensor(self.temperatures[1])
            )
        self.bias: nn.Parameter | None = None
        if plain.bias is not None:
            self.bias = nn.Parameter(torch.zeros(self.out_channels))

    def check(self, name: str, holds: bool, value: Any, expected: str) -> None:
        """Raise a ValueError for an argument that does not hold."""
        if not holds:
            raise ValueError(
                f'conv_cfg of {self.kind}: {name}={value!r}: expected '
                f'{expected}'
            )

    def check_count(self, name: str, value: object) -> None:
        self.check(name, is_int(value, 1), value, 'an int of at least 1')

    def check_attention(self, reduction: int, norm: str | None) -> None:
        self.check_count('reduction', reduction)
        expected = 'one of ' + ', '.join(map(repr, NORMS))
        self.check('norm', norm in NORMS, norm, expected)

    def add_bias(self, y: Tensor) -> Tensor:
        """Add the bias, if there is one, to the output."""
        if self.bias is None:
            return y
        return y + self.bias[:, None, None].to(y.dtype)

    def ordinary(self) -> nn.Conv2d:
        """The ordinary convolution in its place, new."""
        geometry = {name: getattr(self, name) for name in GEOMETRY}
        conv = nn.Conv2d(**geometry, bias=self.bias is not None)
        like = next(self.parameters())
        nn.init.kaiming_normal_(conv.weight, mode='fan_out')
        conv.to(like).train(self.training)
        return conv.requires_grad_(like.requires_grad)


def init_experts(weight: Tensor, bias: Tensor | None) -> None:
    """Each kernel ``weight[i]`` as in the plain ResNet, the bias at zero."""
    for kernel in weight:
        nn.init.kaiming_normal_(kernel, mode='fan_out')
    if bias is not None:
        nn.init.zeros_(bias)


class Squeeze(nn.Module):
    """Mean over the pixels, linear layer, norm and ReLU.

    Args:
        channels: C_in.
        hidden: Channels afterwards.
        norm: ``'BN'``, ``'LN'`` or None.
    """

    def __init__(self, channels: int, hidden: int, norm: str | None):
        super().__init__()
        self.linear = nn.Linear(channels, hidden, bias=False)
        self.norm = NORMS[norm](hidden)
        nn.init.kaiming_normal_(self.linear.weight, mode='fan_out')

    def forward(self, x: Tensor) -> Tensor:
        """From ``(N, C_in, H, W)`` to ``(N, hidden)``."""
        squeezed: Tensor = self.norm(self.linear(x.mean((2, 3)))).relu()
        return squeezed


def excite(hidden: int, outputs: int) -> nn.Linear:
    """The last linear layer of an attention, as its authors start it."""
    linear = nn.Linear(hidden, outputs)
    nn.init.kaiming_normal_(linear.weight, mode='fan_out')
    nn.init.zeros_(linear.bias)
    return linear


def register(layer: type[DynamicConv2d]) -> type[DynamicConv2d]:
    """Make a layer a conv type of mmcv's ``build_conv_layer``."""
    MODELS.register_module(layer.kind, force=True, module=_factory(layer))
    return layer


def _factory(layer: type[DynamicConv2d]) -> Callable[..., nn.Module]:
    own = [
        name
        for name, parameter in inspect.signature(layer).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    ]

    def build(*args: Any, **kwargs: Any) -> nn.Module:
        for name in kwargs:
            if name not in own and name not in CONV2D.parameters:
                near = difflib.get_close_matches(name, own, 1)
                hint = f'; did you mean {near[0]}?' if near else ''
                raise ValueError(
                    f'conv_cfg of {layer.kind}: {name}={kwargs[name]!r}: '
                    f'expected one of {", ".join(own)}{hint}'
                )
        conv = layer(*args, **kwargs)
        # The published networks leave the layer that sees the image alone.
        if conv.in_channels <= _IMAGE_CHANNELS:
            return conv.ordinary()
        return conv

    build.__name__ = layer.kind
    build.__doc__ = f'The conv layer type ``{layer.kind}``.'
    return build
