"""The marked layers of a module tree, and where they are."""

import functools
import inspect
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from torch import nn

from ..layers import Settings
from ..layers.adapter import adapter_size
from ..layers.member import MEMBERS

FUSE = ('switch_to_deploy', 'efficient_conv_bn_eval_forward')
"""Methods with which a module fuses the weights of its layers."""
Around = list[tuple[str, nn.Module]]


class Kind(NamedTuple):
    """What layers that share a kernel have in common."""

    settings: Settings
    groups: int
    shape: tuple[int, ...]
    """Of the kernel: ``(C_out, C_in / groups, kh, kw)`` or
    ``(C_out, C_in)``."""
    trained: bool

    @property
    def size(self) -> tuple[int, ...]:
        return self.shape[2:] or (1, 1)

    @property
    def in_channels(self) -> int:
        return self.shape[1] * self.groups

    def __str__(self) -> str:
        return (
            f'{self.in_channels} -> {self.shape[0]} channels, kernel '
            f'{_times(self.size)}, groups {self.groups}'
        )

    @property
    def adapter(self) -> tuple:
        """Arguments of the :class:`Adapter` of a child."""
        chosen = self.settings
        how = chosen.reduction, chosen.norm, chosen.gate
        return self.in_channels, self.shape, *how


class Site(NamedTuple):
    """A marked layer, and where it is in the model."""

    name: str
    """The layer's name in the model."""
    layer: Any
    """The plain layer, or the member that it has become."""
    kind: Kind
    stages: tuple[tuple[str, int], ...]
    """The stages around the layer, innermost first, as name and id."""
    obstacle: str
    """Why the layer can never share; '' if it can."""

    @property
    def is_member(self) -> bool:
        return 'family' in vars(self.layer)

    def obstacles(self) -> list[str]:
        """Why the rule leaves the layer out; empty if it is eligible."""
        if self.obstacle or self.is_member:
            return [self.obstacle] if self.obstacle else []
        kind, rule = self.kind, self.kind.settings
        stride, sizes = getattr(self.layer, 'stride', (1,)), rule.kernel_sizes
        size, channels = _times(kind.size), min(kind.shape[:2])
        found = []
        if max(stride) > 1:
            found.append(f'stride {_times(stride)}')
        if sizes is None and max(kind.size) == 1:
            found.append(f'kernel {size}, kernel_sizes default to k > 1')
        if sizes is not None and kind.size not in [(k, k) for k in sizes]:
            found.append(f'kernel {size} not in kernel_sizes={list(sizes)}')
        if channels < rule.min_channels:
            found.append(
                f'{channels} channels, min_channels={rule.min_channels}'
            )
        if not found and weighs_more(kind):
            found.append(weighs_more(kind))
        return found


def _times(numbers: Iterable[int]) -> str:
    return 'x'.join(map(str, numbers))


def weighs_more(kind: Kind) -> str:
    """Text if the adapter is not smaller than the kernel, else ''."""
    adapter, kernel = adapter_size(*kind.adapter), math.prod(kind.shape)
    if adapter < kernel:
        return ''
    return (
        f'its adapter would have {adapter:,} parameters, its kernel has '
        f'{kernel:,}'
    )


def sites(model: nn.Module) -> list[Site]:
    """Every marked layer, in order of depth."""
    weights = (m._parameters.get('weight') for m in model.modules())
    users = Counter(map(id, weights))
    found = []
    for name, layer, around in walk(model):
        if 'kernel_dna' in vars(layer):
            is_member = 'family' in vars(layer)
            obstacle = '' if is_member else _obstacle(layer, around, users)
            settings = vars(layer)['kernel_dna']
            found.append(site_of(name, layer, around, settings, obstacle))
    return found


def site_of(
    name: str,
    layer: nn.Module,
    around: Around,
    settings: Settings,
    obstacle: str = '',
) -> Site:
    """The site of a layer, with ``name`` and ``around`` from :func:`walk`."""
    stages = tuple((n, id(m)) for n, m in around if is_stage(m))
    return Site(name, layer, _kind(layer, settings), stages, obstacle)


def _kind(layer: Any, settings: Settings) -> Kind:
    groups = vars(layer).get('groups', 1)
    if 'family' in vars(layer):
        shape, trained = layer.kernel_shape, layer.is_trained
    else:
        shape, trained = layer.weight.shape, layer.weight.requires_grad
    return Kind(settings, groups, tuple(shape), trained)


def is_stage(module: nn.Module) -> bool:
    """Whether a module can be a stage."""
    return isinstance(module, (nn.Sequential, nn.ModuleList))


def _obstacle(layer: nn.Module, around: Around, users: Counter) -> str:
    if type(layer) not in MEMBERS:
        only = 'only nn.Conv2d or nn.Linear itself can share'
        return f'a {type(layer).__name__}, {only}'
    weight = layer._parameters.get('weight')
    if weight is None:
        return 'its weight is parametrised; switch its spectral norm off'
    if users[id(weight)] > 1:
        return 'its weight is shared already'
    for _, module in around:
        for method in FUSE:
            if callable(getattr(module, method, None)):
                return f'{type(module).__name__}.{method} fuses its weight'
        for name in _weights_read(type(module)):  # type: ignore
            if getattr(module, name, None) is layer:
                return f'{type(module).__name__} reads its weight'
    return ''


@functools.cache
def _weights_read(cls: type[nn.Module]) -> list[str]:
    """Names of submodules whose weights a class's forward reads."""
    try:
        source = inspect.getsource(cls.forward)
    except (OSError, TypeError):
        # There is no source: compiled, or typed into an interpreter.
        return []
    return re.findall(r'self\.(\w+)\.weight\b', source)


def walk(model: nn.Module) -> Iterator[tuple[str, nn.Module, Around]]:
    """Each module once, in order of depth, by its first name.

    The third value has the modules around it, innermost first.
    """
    modules = dict(model.named_modules())
    for name, module in modules.items():
        around = [(outer, modules[outer]) for outer in outwards(name)]
        yield name, module, around


def outwards(name: str) -> Iterator[str]:
    """The names of the modules around a name, innermost first."""
    while name:
        name = name.rpartition('.')[0]
        yield name
