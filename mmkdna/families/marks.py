"""Settings on plain layers: what a config says, before any family forms."""

import inspect
from collections.abc import Mapping
from typing import Any

from mmcv.cnn import build_conv_layer
from mmengine.registry import MODELS, Registry
from torch import nn

from ..errors import BadInput
from ..layers import Settings
from ..layers.member import MEMBERS

_CONV2D = inspect.signature(nn.Conv2d).parameters


@MODELS.register_module('KernelDNA', force=True)
class KernelDNA:
    """The conv layer type ``KernelDNA``: the plain layer, marked.

    ``conv_cfg=dict(type='KernelDNA', ...)`` builds the layer that its module
    would have built without it, which carries the settings as data until
    families form. In a new-style config the type is this class.

    Args:
        *args, **kwargs: Of the layer, as :class:`torch.nn.Conv2d`, and the
            arguments of :class:`Settings`.
        plain: The ``conv_cfg`` that the module has by default; a build of
            the registry finds out by itself.

    Raises:
        BadInput: If an argument is unknown or out of its range.
    """

    def __new__(  # type: ignore[misc]
        cls, *args: Any, plain: dict | None = None, **kwargs: Any
    ) -> nn.Module:
        mine = {k: v for k, v in kwargs.items() if k not in _CONV2D}
        rest = {k: v for k, v in kwargs.items() if k in _CONV2D}
        settings = Settings.of(mine)
        layer = build_conv_layer(
            {'type': 'Conv2d', **(plain or {}), **rest}, *args
        )
        layer.kernel_dna = settings
        return layer


def settings_of(conv_cfg: Any) -> dict | None:
    """The arguments of a ``conv_cfg`` of the type KernelDNA, else None."""
    if not isinstance(conv_cfg, dict):
        return None
    kind = conv_cfg.get('type')
    if isinstance(kind, str):
        kind = KernelDNA if kind.split('.')[-1] == 'KernelDNA' else None
    if kind is not KernelDNA:
        return None
    return {k: v for k, v in conv_cfg.items() if k != 'type'}


def mark(model: nn.Module, linear: bool = False, **settings: Any) -> None:
    """Mark the plain layers of a module.

    Args:
        model: Any module; layers that are marked stay as they are.
        linear: Whether ``nn.Linear`` layers, which act on the last axis as
            pointwise convs, are marked too (with ``kernel_sizes=(1,)``).
        **settings: As in a ``conv_cfg``.

    Raises:
        BadInput: If an argument is unknown or out of its range.
    """
    if not isinstance(linear, bool):
        raise BadInput(f'linear={linear!r}: expected True or False')
    value = Settings.of(settings)
    for layer in model.modules():
        # A subclass may do something else with its weight.
        plain = getattr(MEMBERS.get(type(layer)), 'plain_class', None)
        if plain is nn.Conv2d or (linear and plain is nn.Linear):
            layer.__dict__.setdefault('kernel_dna', value)


def prepare(cfg: Any, registry: Registry) -> tuple[Any, dict | None]:
    """A module's config as its class knows it, and its ``kernel_dna`` key.

    A ``conv_cfg`` of the type KernelDNA is told which one the class has by
    default, since that is what the plain layers are.
    """
    if not isinstance(cfg, Mapping):
        return cfg, None
    key = None
    if 'kernel_dna' in cfg:
        key = cfg['kernel_dna']
        cfg = cfg.copy()  # type: ignore[attr-defined]
        del cfg['kernel_dna']
        if key is not None and not isinstance(key, dict):
            raise BadInput(
                f'kernel_dna={key!r}: expected a dict of arguments, such as '
                'dict(min_channels=128), or None'
            )
    conv_cfg = cfg.get('conv_cfg')
    mine = settings_of(conv_cfg)
    if mine is not None and 'plain' not in mine:
        plain = _default_conv_cfg(cfg, registry)
        if plain is not None:
            cfg = cfg.copy()  # type: ignore[attr-defined]
            cfg['conv_cfg'] = {**conv_cfg, 'plain': plain}
    return cfg, key


def _default_conv_cfg(cfg: Mapping, registry: Registry) -> dict | None:
    kind: Any = cfg.get('type')
    if isinstance(kind, str):
        with registry.switch_scope_and_registry(cfg.get('_scope_')) as scope:
            kind = scope.get(kind)
    for cls in getattr(kind, '__mro__', ()):
        if '__init__' in vars(cls):
            found = inspect.signature(cls.__init__).parameters.get('conv_cfg')
            if found is not None:
                default = found.default
                return default if isinstance(default, dict) else None
    return None
