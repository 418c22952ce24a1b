"""The conv layer type ``KernelDNA``, and how configs select it."""

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
    """The conv layer type ``KernelDNA``: it marks a plain layer.

    ``conv_cfg=dict(type='KernelDNA', ...)`` builds the layer that the module
    would build without it, and marks the layer with the settings. Families
    form later. In a new-style config, use this class as the type.

    Args:
        *args, **kwargs: Arguments of :class:`torch.nn.Conv2d` and of
            :class:`Settings`.
        plain: The default ``conv_cfg`` of the module's class; a registry's
            build fills it in.

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
    """The arguments of a KernelDNA ``conv_cfg``; None for another type."""
    if not isinstance(conv_cfg, dict):
        return None
    kind = conv_cfg.get('type')
    if isinstance(kind, str):
        kind = KernelDNA if kind.split('.')[-1] == 'KernelDNA' else None
    if kind is not KernelDNA:
        return None
    return {k: v for k, v in conv_cfg.items() if k != 'type'}


def prepare(cfg: Any, registry: Registry) -> tuple[Any, dict | None, bool]:
    """Split a module's config into what its class takes and ``kernel_dna``.

    The third value says whether the key or the ``conv_cfg`` has settings.
    A KernelDNA ``conv_cfg`` also gets the default ``conv_cfg`` of the class:
    it says what the plain layers are.
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
