"""The conv layer type ``KernelDNA``, and the configs that ask for it."""

import inspect
from collections.abc import Mapping
from typing import Any

from mmcv.cnn import build_conv_layer
from mmengine.registry import MODELS, Registry
from torch import nn

from ..errors import check
from ..layers import Settings

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
        of_layer = {k: v for k, v in kwargs.items() if k in _CONV2D}
        mine = {k: v for k, v in kwargs.items() if k not in _CONV2D}
        settings = Settings.of(mine)
        conv_cfg = {'type': 'Conv2d', **(plain or {}), **of_layer}
        layer = build_conv_layer(conv_cfg, *args)
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


def prepare(cfg: Any, registry: Registry) -> tuple[Any, dict | None, bool]:
    """A module's config as its class knows it, and its ``kernel_dna`` key.

    And whether it has settings, by that key or its ``conv_cfg``.

    A ``conv_cfg`` of the type KernelDNA is told which one the class has by
    default, since that is what the plain layers are.
    """
    if not isinstance(cfg, Mapping):
        return cfg, None, False
    cfg = cfg.copy()  # type: ignore[attr-defined]
    key, mine = cfg.pop('kernel_dna', None), settings_of(cfg.get('conv_cfg'))
    known = key is None or isinstance(key, dict)
    expected = 'a dict of arguments, such as dict(min_channels=128), or None'
    check('kernel_dna', key, known, expected)
    if mine is not None and 'plain' not in mine:
        takes, plain = _default_conv_cfg(cfg, registry)
        if takes:
            cfg['conv_cfg'] = {**cfg['conv_cfg'], 'plain': plain}
    return cfg, key, key is not None or mine is not None


def _default_conv_cfg(cfg: Any, registry: Registry) -> tuple[bool, Any]:
    """Whether a config's class takes a ``conv_cfg``, and its default."""
    kind = cfg.get('type')
    if isinstance(kind, str):
        with registry.switch_scope_and_registry(cfg.get('_scope_')) as scope:
            kind = scope.get(kind)
    for cls in getattr(kind, '__mro__', ()):
        if '__init__' in vars(cls):
            found = inspect.signature(cls.__init__).parameters.get('conv_cfg')
            if found is not None:
                default = found.default
                return True, default if isinstance(default, dict) else None
    return False, None
