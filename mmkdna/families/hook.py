"""Families form before the registry hands a model out.

DDP wraps a model and the optimizer is built from its parameters before any
hook or ``init_weights`` runs, so a later moment is too late; and only when
the outermost build returns is the model complete, so an earlier one is too
early.
"""

import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

from mmengine.registry import MODELS, Registry
from torch import nn

from ..layers import Policy, kernel_dna_conv
from .linking import form_families
from .sites import Owner

_building = threading.local()
"""``modules``: what the outermost build under way has built so far."""


def install() -> None:
    """Make every model registry form families when its outermost build ends.

    Registries made later inherit the ``build_func`` of their parent. Calling
    it twice installs it once.
    """
    for registry in _with_descendants(MODELS):
        plain = getattr(
            registry.build_func, 'forms_families_after', registry.build_func
        )
        registry.build_func = _forming(plain)


def _with_descendants(registry: Registry) -> Iterator[Registry]:
    yield registry
    for child in registry.children.values():
        yield from _with_descendants(child)


def _forming(build_func: Callable) -> Callable:

    @functools.wraps(build_func)
    def build(cfg: Any, *args: Any, **kwargs: Any) -> Any:
        if hasattr(_building, 'modules'):
            built = build_func(cfg, *args, **kwargs)
            _note(cfg, built)
            return built
        _building.modules = []
        try:
            built = build_func(cfg, *args, **kwargs)
            _note(cfg, built)
            _form(_building.modules)
            return built
        finally:
            del _building.modules

    build.forms_families_after = build_func  # type: ignore[attr-defined]
    return build


def _note(cfg: Any, built: Any) -> None:
    if isinstance(built, nn.Module):
        _building.modules.append((built, _policy_of(cfg)))


def _policy_of(cfg: Any) -> Policy | None:
    """The policy of the ``conv_cfg`` in a module's config, if it is ours."""
    conv_cfg = cfg.get('conv_cfg') if hasattr(cfg, 'get') else None
    if not isinstance(conv_cfg, dict):
        return None
    arguments = {**conv_cfg}
    kind = arguments.pop('type', None)
    if (
        kind is kernel_dna_conv
        or isinstance(kind, str)
        and kind.split('.')[-1] == 'KernelDNA'
    ):
        return Policy.from_conv_cfg(arguments)
    return None


def _form(built: list[tuple[nn.Module, Policy | None]]) -> None:
    """Form families in what was built, the outermost modules first.

    The outermost module comes last and holds most others; those it does not
    hold (a teacher that a detector hides from its state dict, the parts of
    an object that is no module) form theirs by themselves.
    """
    owners: list[Owner] = [(m, p) for m, p in built if p is not None]
    held: set[int] = set()
    for module, _ in reversed(built):
        if id(module) not in held:
            held.update(map(id, module.modules()))
            form_families(module, owners)
