"""The marked layers of a module tree, and where they are."""

import dis
import functools
import inspect
import itertools
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..layers import Settings
from ..layers.adapter import adapter_size
from ..layers.member import MEMBERS

Around = tuple[tuple[str, nn.Module], ...]


@dataclass(frozen=True)
class Site:
    """A layer that carries settings, and where it is.

    Args:
        name: Name in the model.
        layer: The plain layer, or the member that it has become.
        settings: What it carries.
        stages: The sequences around it, innermost first, as name and id.
        owner: Name of the smallest module of the registry around it.
        obstacle: Why it can share with no layer at all; '' if it can.
    """

    name: str
    layer: Any
    settings: Settings
    stages: tuple[tuple[str, int], ...]
    owner: str
    obstacle: str

    @property
    def is_member(self) -> bool:
        return 'family' in vars(self.layer)

    @property
    def shape(self) -> tuple[int, ...]:
        """``(C_out, C_in / groups, kh, kw)`` or ``(C_out, C_in)``."""
        if self.is_member:
            return tuple(self.layer.kernel_shape)
        return tuple(self.layer.weight.shape)

    @property
    def size(self) -> tuple[int, ...]:
        return self.shape[2:] or (1, 1)

    @property
    def groups(self) -> int:
        return int(getattr(self.layer, 'groups', 1))

    @property
    def in_channels(self) -> int:
        return self.shape[1] * self.groups

    @property
    def channels(self) -> int:
        """What ``min_channels`` is about; 1 for a depthwise conv."""
        return min(self.shape[:2])

    @property
    def kind(self) -> tuple:
        """Equal for layers that may share a kernel."""
        layer = self.layer
        kind: Any = MEMBERS.get(type(layer), type(layer))
        plain = getattr(kind, 'plain_class', kind)
        trained = (
            layer.is_trained if self.is_member else layer.weight.requires_grad
        )
        return self.settings, plain, self.shape, self.groups, trained

    @property
    def adapter_arguments(self) -> tuple:
        """Of the :class:`Adapter` that it has as a child."""
        chosen = self.settings
        return (
            self.in_channels,
            self.shape,
            chosen.reduction,
            chosen.norm,
            chosen.gate,
        )

    @property
    def adapter_size(self) -> int:
        return adapter_size(*self.adapter_arguments)

    def obstacles(self) -> list[str]:
        """Why the rule leaves it out; empty if it is eligible."""
        if self.obstacle:
            return [self.obstacle]
        settings, found = self.settings, []
        stride = getattr(self.layer, 'stride', (1, 1))
        if max(stride) > 1:
            found.append('stride ' + 'x'.join(map(str, stride)))
        kernel = 'x'.join(map(str, self.size))
        if settings.kernel_sizes is None:
            if max(self.size) == 1:
                found.append(f'kernel {kernel}, kernel_sizes default to k > 1')
        elif self.size not in [(k, k) for k in settings.kernel_sizes]:
            found.append(
                f'kernel {kernel} not in kernel_sizes='
                f'{list(settings.kernel_sizes)}'
            )
        if self.channels < settings.min_channels:
            found.append(
                f'{self.channels} channels, '
                f'min_channels={settings.min_channels}'
            )
        weight = torch.Size(self.shape).numel()
        if not found and self.adapter_size >= weight:
            found.append(
                f'its adapter would have {self.adapter_size:,} parameters, '
                f'its kernel has {weight:,}'
            )
        return found


def sites(model: nn.Module, built: Collection[int] = ()) -> list[Site]:
    """Every marked layer, in order of depth.

    Args:
        model: The module tree.
        built: Ids of the modules that the registry built.
    """
    users: dict[int, int] = {}
    found: list[tuple[str, Any, Around]] = []
    for name, layer, around in walk(model):
        weight = layer._parameters.get('weight')
        users[id(weight)] = users.get(id(weight), 0) + 1
        if 'kernel_dna' in vars(layer):
            found.append((name, layer, around))
    return [
        Site(
            name,
            layer,
            layer.kernel_dna,
            tuple((n, id(m)) for n, m in around if is_stage(m)),
            next((n for n, m in around if id(m) in built), ''),
            '' if 'family' in vars(layer) else _obstacle(layer, around, users),
        )
        for name, layer, around in found
    ]


def is_stage(module: nn.Module) -> bool:
    """Whether a module is a sequence of others, as a stage is."""
    return isinstance(module, (nn.Sequential, nn.ModuleList))


def _obstacle(layer: nn.Module, around: Around, users: dict[int, int]) -> str:
    if type(layer) not in MEMBERS:
        plain = dict.fromkeys(kind.plain_class for kind in MEMBERS.values())
        kinds = ' or '.join(f'nn.{kind.__name__}' for kind in plain)
        return f'a {type(layer).__name__}, only {kinds} itself can share'
    weight = layer._parameters.get('weight')
    if weight is None:
        return 'its weight is parametrised; switch its spectral norm off'
    if users[id(weight)] > 1:
        return 'its weight is shared already'
    for _, module in around:
        if reason := _fuses_weights(module):
            return reason
    for _, owner in around[:1]:
        for name in _weights_read(type(owner)):  # type: ignore[arg-type]
            if getattr(owner, name, None) is layer:
                return f'{type(owner).__name__} reads its weight'
    return ''


@functools.cache
def _weights_read(cls: type[nn.Module]) -> set[str]:
    """Names of submodules whose ``weight`` a class's methods read.

    Such a method computes with the weight, past the layer's forward. One
    that initialises or loads may.
    """
    read = set()
    for base in cls.__mro__:
        for method, function in vars(base).items():
            if not re.search('init|reset|load', method):
                code = getattr(inspect.unwrap(function), '__code__', None)
                steps = dis.get_instructions(code) if code else ()
                for step, after in itertools.pairwise(steps):
                    if (step.opname, after.argval) == ('LOAD_ATTR', 'weight'):
                        read.add(step.argval)
    return read


def _fuses_weights(module: nn.Module) -> str:
    """Why no layer in a module can be a member; '' if one can."""
    cls = type(module)
    if callable(getattr(module, 'switch_to_deploy', None)):
        return f'{cls.__name__}.switch_to_deploy fuses its weight'
    if getattr(module, 'efficient_conv_bn_eval_forward', None) is not None:
        return f'efficient_conv_bn_eval of {cls.__name__} fuses its weight'
    return ''


def walk(model: nn.Module) -> Iterator[tuple[str, nn.Module, Around]]:
    """Each module once: its name, itself, and the modules around it.

    In order of depth; those around it innermost first, by name.
    """
    seen: set[int] = set()
    ahead: list[tuple[str, nn.Module, Around]] = [('', model, ())]
    while ahead:
        name, module, around = ahead.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        yield name, module, around
        prefix = f'{name}.' if name else ''
        around = ((name, module), *around)
        for key, child in reversed(list(module.named_children())):
            ahead.append((prefix + key, child, around))
