"""What the dynamic convolutions have in common."""

import inspect
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..errors import are_ints, check, check_int, check_known, check_one_of
from ..families.forming import when_built
from ..layers.norm import NORMS

CONV2D = inspect.signature(nn.Conv2d)
"""The arguments of :class:`torch.nn.Conv2d`."""
GEOMETRY = [
    name
    for name in CONV2D.parameters
    if name not in ('bias', 'device', 'dtype')
]
"""Those arguments that a conv has as attributes."""
SHORTCUT = 'downsample'
"""The name of a block's shortcut in every ResNet."""
_IMAGE_CHANNELS = 4


class DynamicConv2d(nn.Module):
    """A 2-d convolution whose kernel depends on the image.

    Args:
        *args, **kwargs: As :class:`torch.nn.Conv2d`.

    Attributes:
        kernel_shape: ``(C_out, C_in / groups, kh, kw)``.
        temperature: Temperature of the attention, a buffer ``()``. It has its
            last value unless :class:`TemperatureHook` changes it.

    Raises:
        BadInput: If an argument is out of its range.
    """

    kind: ClassVar[str]
    """The name of the conv layer type."""
    in_shortcuts: ClassVar[bool] = False
    """Whether the published networks use it in a block's shortcut, too."""
    temperatures: ClassVar[tuple[float, float] | None] = None
    """The first and the last temperature; None for a type without one."""
    temperature: Tensor
    weight: Any
    """``(..., *kernel_shape)``: one kernel, or several."""
    bias: nn.Parameter | None

    # mmcv's ConvModule reads these.
    transposed = False
    in_channels: int
    out_channels: int
    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: Any
    dilation: tuple[int, int]
    groups: int
    padding_mode: str
    output_padding: tuple[int, int]

    extra_repr = nn.Conv2d.extra_repr  # type: ignore[assignment]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        plain = _checked(self.kind, *args, **kwargs)
        for name in (*GEOMETRY, 'output_padding'):
            setattr(self, name, getattr(plain, name))
        self._border: list[int] = plain._reversed_padding_repeated_twice
        self.kernel_shape = tuple(plain.weight.shape)
        if self.temperatures is not None:
            last = torch.tensor(self.temperatures[1])
            self.register_buffer('temperature', last)
        self.bias = None
        if plain.bias is not None:
            self.bias = nn.Parameter(torch.zeros(self.out_channels))

    def init_weights(self) -> None:
        """Initialise each kernel like a plain ResNet's, the bias at zero."""
        for kernel in self.weight.view(-1, *self.kernel_shape):
            nn.init.kaiming_normal_(kernel, mode='fan_out')
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @property
    def what(self) -> str:
        """How errors name an argument of its ``conv_cfg``."""
        return f'conv_cfg of {self.kind}: '

    def check_count(self, name: str, value: object) -> None:
        """Raise BadInput if the value is not an int of at least 1."""
        check_int(self.what + name, value, 1)

    def check_attention(self, reduction: int, norm: str | None) -> None:
        """Raise BadInput for arguments that :class:`Squeeze` cannot take."""
        self.check_count('reduction', reduction)
        check_one_of(f'{self.what}norm', norm, NORMS)

    def convolve(
        self, x: Tensor, kernel: Tensor, bias: Tensor | None = None
    ) -> Tensor:
        """Convolve ``(N, C_in, H, W)`` with one kernel for all images."""
        return self._convolve(x, kernel, bias, self.groups)

    def convolve_each(
        self, x: Tensor, kernels: Tensor, biases: Tensor | None = None
    ) -> Tensor:
        """Convolve each image with its own kernel.

        Args:
            x: ``(N, C_in, H, W)``.
            kernels: ``(N, C_out, C_in / groups, kh, kw)``.
            biases: ``(N, C_out)`` or None.
        """
        count = x.shape[0]
        # One grouped convolution, in which each image is a group of channels.
        y = self._convolve(
            x.reshape(1, -1, *x.shape[2:]),
            kernels.flatten(0, 1),
            None if biases is None else biases.flatten(),
            count * self.groups,
        )
        return y.view(count, self.out_channels, *y.shape[2:])

    def _convolve(
        self, x: Tensor, kernel: Tensor, bias: Tensor | None, groups: int
    ) -> Tensor:
        padding = self.padding
        if self.padding_mode != 'zeros':
            x = F.pad(x, self._border, mode=self.padding_mode)
            padding = 0
        how = self.stride, padding, self.dilation, groups
        return F.conv2d(x, kernel, bias, *how)

    def add_bias(self, y: Tensor) -> Tensor:
        """Add the bias, if there is one, to the output."""
        if self.bias is None:
            return y
        return y + self.bias[:, None, None].to(y.dtype)

    def plain(self) -> nn.Conv2d:
        """A new plain convolution with the same arguments."""
        geometry = {name: getattr(self, name) for name in GEOMETRY}
        conv = nn.Conv2d(**geometry, bias=self.bias is not None)
        like = next(self.parameters())
        nn.init.kaiming_normal_(conv.weight, mode='fan_out')
        conv.to(like).train(self.training)
        return conv.requires_grad_(like.requires_grad)


def _checked(kind: str, *args: Any, **kwargs: Any) -> nn.Conv2d:
    """A plain conv on the meta device, after a check of the arguments."""
    bound = CONV2D.bind(*args, **kwargs)
    bound.apply_defaults()
    given = bound.arguments
    layer = f'{kind} conv {given["in_channels"]} -> {given["out_channels"]}: '
    for name in ('kernel_size', 'stride', 'padding', 'dilation'):
        value, least = given[name], int(name != 'padding')
        pair = value if isinstance(value, (tuple, list)) else (value, value)
        holds = len(pair) == 2 and are_ints(tuple(pair), least)
        if name == 'padding':
            holds = holds or isinstance(value, str)
        expected = f'an int of at least {least} or two of them: it is 2-d'
        check(layer + name, value, holds, expected)
    # nn.Conv2d checks the other arguments.
    return nn.Conv2d(**{**given, 'device': 'meta'})


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
    """The last linear layer of an attention, initialised as published."""
    linear = nn.Linear(hidden, outputs)
    nn.init.kaiming_normal_(linear.weight, mode='fan_out')
    nn.init.zeros_(linear.bias)
    return linear


TYPES: dict[str, type[DynamicConv2d]] = {}
"""The dynamic convolutions, by their names as conv layer types."""


def register(layer: type[DynamicConv2d]) -> type[DynamicConv2d]:
    """Make a layer a conv type of mmcv's ``build_conv_layer``."""
    own = [
        name
        for name, parameter in inspect.signature(layer).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    ]

    def build(*args: Any, **kwargs: Any) -> nn.Module:
        for name, value in kwargs.items():
            if name not in CONV2D.parameters:
                what = f'conv_cfg of {layer.kind}: '
                check_known(what, value, name, own)
        conv = layer(*args, **kwargs)
        # The published networks keep the layer that reads the image plain.
        return conv.plain() if conv.in_channels <= _IMAGE_CHANNELS else conv

    build.__name__ = layer.kind
    build.__doc__ = f'The conv layer type ``{layer.kind}``.'
    MODELS.register_module(layer.kind, force=True, module=build)
    TYPES[layer.kind] = layer
    return layer


def make_plain(model: nn.Module, name: str, conv: DynamicConv2d) -> None:
    """Replace a dynamic convolution by a plain one."""
    path, _, last = name.rpartition('.')
    setattr(model.get_submodule(path), last, conv.plain())


def _keep_shortcuts_plain(model: nn.Module) -> None:
    for name, conv in [*model.named_modules()]:
        dynamic = isinstance(conv, DynamicConv2d) and not conv.in_shortcuts
        if dynamic and SHORTCUT in name.split('.'):
            make_plain(model, name, conv)


when_built.append(_keep_shortcuts_plain)
