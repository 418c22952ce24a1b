"""Families form as soon as the module that got the settings is built.

DDP wraps a model and the optimizer is made before any hook or
``init_weights`` runs, and a constructor may load a checkpoint into a part of
a model or copy it: so every build of the model registries forms what can be
formed in what it returns, and what is formed stays.
"""

import functools
import logging
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mmengine.logging import print_log
from mmengine.model import Sequential
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import MODELS, Registry
from torch import nn

from ..layers import Adapter, KernelDNALayer, become_family
from ..layers.disguise import disguising
from .grouping import Family, group_families, near_misses
from .marks import mark, prepare, settings_of
from .report import list_families, report
from .sites import Site, sites, walk

when_built: list[Callable[[nn.Module], None]] = []
"""What else is done to every module that is built."""


class _Build(threading.local):
    """The builds under way in this thread."""

    def __init__(self) -> None:
        self.depth = 0
        self.modules: list[nn.Module] = []
        self.parents: list[nn.Module] = []


_build = _Build()


def form_families(model: nn.Module) -> list[Family]:
    """Form the families of a complete model; a second time changes nothing.

    A build of the registries does this by itself. Call it in plain PyTorch
    code, when the model is complete and before the optimizer is made.

    Args:
        model: A model with marked layers.

    Returns:
        All families of the model, as of :func:`list_families`.

    Raises:
        BadInput: If a list of sizes does not fit, or listed layers are
            unknown or cannot share a kernel.
    """
    formed = _form(model, last=True)
    _tell(model, bool(formed))
    return list_families(model)


def _form(model: nn.Module, last: bool) -> list[Family]:
    families = group_families(_sites(model), last)
    if families:
        # Some networks freeze their stages in train().
        modes = [(module, module.training) for module in model.modules()]
        model.train(model.training)
        for module, mode in modes:
            module.training = mode
        families = group_families(_sites(model), last)
    for family in families:
        _link(family)
    if families:
        _initialise_as_plain(model)
    for listener in when_built:
        listener(model)
    return families


def _sites(model: nn.Module) -> list[Site]:
    return sites(model, {id(module) for module in _build.modules})


def _link(family: Family) -> None:
    """Give each child an adapter that takes after the kernel it replaces."""
    adapters = []
    for name, layer in family.children:
        site = Site(name, layer, layer.kernel_dna, (), '', '')
        kernel, adapter = layer.weight, Adapter(*site.adapter_arguments)
        adapter.to(kernel).train(layer.training)
        adapter.requires_grad_(kernel.requires_grad)
        adapters.append(adapter)
        size = math.prod(site.shape)
        if site.adapter_size >= size:
            print_log(
                f'KernelDNA: {name} as a child has an adapter of '
                f'{site.adapter_size:,} parameters, its kernel had {size:,}. '
                'Leave it out of families, or raise reduction.',
                'current',
                logging.WARNING,
            )
    children = [layer for _, layer in family.children]
    become_family(family.parent.module, children, adapters)


def _initialise_as_plain(model: nn.Module) -> None:
    """Have the modules around members initialise them as plain layers."""
    for _, layer, around in walk(model):
        if isinstance(layer, KernelDNALayer):
            classes: set[Any] = {c for _, m in around for c in type(m).__mro__}
            for cls in classes:
                if 'init_weights' in vars(cls):
                    cls.init_weights = disguising(cls.init_weights, 0)


def _tell(model: nn.Module, formed: bool) -> None:
    """Log what formed, and what did not and why."""
    if formed:
        print_log(report(model).summary, 'current')
    for (owner, settings), misses in near_misses(_sites(model)).items():
        print_log(
            f'No family forms in {owner or type(model).__name__} under '
            f'conv_cfg={settings}: its layers stay plain. Nearest misses: '
            f'{misses}',
            'current',
            logging.WARNING,
        )


def install() -> None:
    """Make every model registry form families; a second time does nothing.

    Registries made later inherit the ``build_func`` of their parent.
    """
    for registry in _with_descendants(MODELS):
        plain = getattr(
            registry.build_func, 'forms_families_after', registry.build_func
        )
        registry.build_func = _forming(plain)
    # It asks for depthwise convs by isinstance.
    DefaultOptimWrapperConstructor.__call__ = disguising(  # type: ignore
        DefaultOptimWrapperConstructor.__call__, 1
    )


def _with_descendants(registry: Registry) -> Iterator[Registry]:
    yield registry
    for child in registry.children.values():
        yield from _with_descendants(child)


def _forming(build_func: Callable) -> Callable:
    @functools.wraps(build_func)
    def build(cfg: Any, *args: Any, registry: Registry, **kwargs: Any) -> Any:
        if isinstance(cfg, list):
            # As mmengine, which does not come by here for the items.
            return Sequential(
                *(build(c, *args, registry=registry, **kwargs) for c in cfg)
            )
        cfg, key = prepare(cfg, registry)
        outermost = _build.depth == 0
        _build.depth += 1
        try:
            built = build_func(cfg, *args, registry=registry, **kwargs)
            if isinstance(built, nn.Module):
                if key is not None:
                    mark(built, **key)
                _say_ignored(built, cfg, key)
                _build.modules.append(built)
                families = _form(built, last=False)
                _build.parents += [f.parent.module for f in families]
            if outermost:
                _complete()
            return built
        finally:
            _build.depth -= 1
            if outermost:
                _build.__init__()  # type: ignore[misc]

    build.forms_families_after = build_func  # type: ignore[attr-defined]
    return build


def _say_ignored(built: nn.Module, cfg: Any, key: dict | None) -> None:
    """Some classes take a ``conv_cfg`` and give it to no layer."""
    asked, advice = key, ''
    if key is None and isinstance(cfg, Mapping):
        asked = settings_of(cfg.get('conv_cfg'))
        advice = ' Its config takes kernel_dna=dict(...) instead.'
    if asked is None or any('kernel_dna' in vars(m) for m in built.modules()):
        return
    print_log(
        f'No family forms in {type(built).__name__}: none of its layers gets '
        f'the {"conv_cfg" if key is None else "kernel_dna"}.{advice}',
        'current',
        logging.WARNING,
    )


def _complete() -> None:
    """No larger module comes: report, on the largest modules, what remains.

    The one built last holds most others; those that it does not hold (a
    teacher that a detector hides from its state dict) are on their own.
    """
    held: set[int] = set()
    for module in reversed(_build.modules):
        if id(module) not in held:
            inside = {id(m) for m in module.modules()}
            held |= inside
            formed = _form(module, last=True)
            parents = [*_build.parents, *(f.parent.module for f in formed)]
            _tell(module, any(id(p) in inside for p in parents))
