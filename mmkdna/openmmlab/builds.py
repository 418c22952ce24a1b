"""Form families as soon as the module with the settings is built.

A later hook would be too late: DDP and the optimizer need the families, and
a constructor may load a checkpoint into a part of the model or copy it. So
every build of the model registries forms the families that it can.
"""

import functools
import threading
from collections.abc import Callable
from typing import Any

from mmengine.model import Sequential
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import MODELS, Registry
from torch import nn

from ..families import mark
from ..families.forming import complete, form, when_built, when_complete
from .conv_type import prepare
from .disguise import disguising, initialise_as_plain
from .log import tell, warn


class _Builds(threading.local):
    """The builds under way in this thread."""

    def __init__(self) -> None:
        self.depth = 0
        self.modules: list[nn.Module] = []
        self.asked: list[nn.Module] = []
        """The modules whose configs have settings."""
        self.parents: set[nn.Module] = set()
        """The parents of the families that formed."""


_builds = _Builds()


def install() -> None:
    """Make every model registry form families; a second call does nothing.

    Later registries inherit the ``build_func`` of their parent.
    """
    registries = [MODELS]
    for registry in registries:
        registries += registry.children.values()
        function = registry.build_func
        plain = getattr(function, 'forms_families_after', function)
        registry.build_func = _forming(plain)
    # It finds depthwise convs by isinstance.
    DefaultOptimWrapperConstructor.__call__ = disguising(  # type: ignore
        DefaultOptimWrapperConstructor.__call__, 1
    )
    if tell not in when_complete:
        when_built.append(initialise_as_plain)
        when_complete.append(tell)


def _forming(build_func: Callable) -> Callable:
    @functools.wraps(build_func)
    def build(cfg: Any, *args: Any, registry: Registry, **kwargs: Any) -> Any:
        if isinstance(cfg, list):
            # mmengine would build the items without this function.
            items = (build(c, *args, registry=registry, **kwargs) for c in cfg)
            return Sequential(*items)
        cfg, key, asked = prepare(cfg, registry)
        outermost = _builds.depth == 0
        _builds.depth += 1
        try:
            built = build_func(cfg, *args, registry=registry, **kwargs)
            if isinstance(built, nn.Module):
                if key is not None:
                    mark(built, **key)
                if asked:
                    _builds.asked.append(built)
                    _say_ignored(built, by_key=key is not None)
                _builds.modules.append(built)
                formed = form(built, last=False)
                _builds.parents |= {f.parent.module for f in formed}
                if formed and getattr(built, '_is_init', False):
                    warn(
                        f'{type(built).__name__} has loaded weights while it '
                        'was built, before its families formed: its children '
                        "start with their parent's kernel. Load the weights "
                        'afterwards, by init_cfg or load_from'
                    )
            if outermost:
                _complete()
            return built
        finally:
            _builds.depth -= 1
            if outermost:
                _builds.__init__()  # type: ignore[misc]

    build.forms_families_after = build_func  # type: ignore[attr-defined]
    return build


def _say_ignored(built: nn.Module, by_key: bool) -> None:
    """Warn if a class takes settings but passes them to no layer."""
    if not any('kernel_dna' in vars(m) for m in built.modules()):
        what = 'conv_cfg. Its config takes kernel_dna=dict(...) instead.'
        warn(
            f'No family forms in {type(built).__name__}: none of its layers '
            f'gets the {"kernel_dna." if by_key else what}'
        )


def _complete() -> None:
    """After the outermost build, form and report what remains.

    The module built last holds most others. Modules outside of it, such as a
    teacher that a detector hides from its state dict, are complete models.
    """
    held: set[nn.Module] = set()
    asked = set(map(id, _builds.asked))
    for module in reversed(_builds.modules):
        if module not in held:
            inside = set(module.modules())
            held |= inside
            complete(module, bool(_builds.parents & inside), asked)
