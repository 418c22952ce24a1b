"""Families form as soon as the module that got the settings is built.

DDP wraps a model and the optimizer is made before any hook or
``init_weights`` runs, and a constructor may load a checkpoint into a part of
a model or copy it: so every build of the model registries forms what can be
formed in what it returns, and what is formed stays.
"""

import functools
import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from mmengine.logging import print_log
from mmengine.model import Sequential
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import MODELS, Registry
from torch import nn

from ..layers import Adapter, KernelDNALayer, Settings
from ..layers.disguise import disguising
from ..layers.member import become_family
from .grouping import Family, group_families, list_families, near_misses
from .marks import mark, prepare
from .sites import Kind, Site, could_share, sites, walk, weighs_more

when_built: list[Callable[[nn.Module], None]] = []
"""What else is done to every module that is built."""


class _Build(threading.local):
    """The builds under way in this thread."""

    def __init__(self) -> None:
        self.depth = 0
        self.modules: list[nn.Module] = []
        self.asked: list[nn.Module] = []
        """Those whose configs have settings."""
        self.formed: list[Family] = []


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
        found = _sites(model)
        families = group_families(found, last)
        kinds = {site.layer: site.kind for site in found}
        for family in families:
            _link(family, kinds)
        done = {family.parent.module.kernel_dna for family in families}
        for site in found:
            # Names are of one module; what they leave out is done with.
            listed = site.kind.settings.families and not site.is_member
            if listed and site.kind.settings in done:
                del site.layer.kernel_dna
        _initialise_as_plain(model)
    for listener in when_built:
        listener(model)
    return families


def _sites(model: nn.Module) -> list[Site]:
    return sites(model, {id(module) for module in _build.asked})


def _link(family: Family, kinds: Mapping[nn.Module, Kind]) -> None:
    """Give each child an adapter that takes after the kernel it replaces."""
    adapters = []
    for name, layer in family.children:
        kind = kinds[layer]
        adapter = Adapter(*kind.adapter).to(layer.weight).train(layer.training)
        adapters.append(adapter.requires_grad_(kind.trained))
        if reason := weighs_more(kind):
            _warn(
                f'KernelDNA: {name} as a child: {reason}. Leave it out of '
                'families, or raise reduction.'
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
        print_log(_summary(model), 'current')
    for (owner, settings), misses in near_misses(_sites(model)).items():
        _warn(
            f'No family forms in {owner or type(model).__name__} under '
            f'the settings {settings}: its layers stay plain. Nearest misses: '
            f'{misses}{_unmarked(model, owner, settings)}'
        )


def _unmarked(model: nn.Module, name: str, settings: Settings) -> str:
    """Words for layers that could share and did not get the settings."""
    owner, prefix = model.get_submodule(name), f'{name}.' if name else ''
    if names := could_share(owner, settings):
        return (
            f'. {len(names)} other convolutions could share, such as {prefix}'
            f'{names[-1]}, but do not get the conv_cfg: kernel_dna=dict(...) '
            'reaches them'
        )
    linears = [m for m in owner.modules() if type(m) is nn.Linear]
    if len(linears) > 1 and not any('kernel_dna' in vars(m) for m in linears):
        return (
            f'. It has {len(linears)} linear layers: '
            'kernel_dna=dict(linear=True, kernel_sizes=(1,)) reaches them'
        )
    return ''


def _summary(model: nn.Module) -> str:
    families = list_families(model)
    children = [child.module for f in families for child in f.children]
    ours = sum(p.numel() for p in model.parameters())
    plain = ours + sum(child.saved for child in children)
    return (
        f'KernelDNA: {len(families)} families, {len(children)} children; '
        f'{ours:,} parameters instead of {plain:,} ({ours / plain - 1:+.1%})'
    )


def _warn(message: str) -> None:
    print_log(message, 'current', logging.WARNING)


def install() -> None:
    """Make every model registry form families; a second time does nothing.

    Registries made later inherit the ``build_func`` of their parent.
    """
    registries = [MODELS]
    for registry in registries:
        registries += registry.children.values()
        function = registry.build_func
        plain = getattr(function, 'forms_families_after', function)
        registry.build_func = _forming(plain)
    # It asks for depthwise convs by isinstance.
    DefaultOptimWrapperConstructor.__call__ = disguising(  # type: ignore
        DefaultOptimWrapperConstructor.__call__, 1
    )


def _forming(build_func: Callable) -> Callable:
    @functools.wraps(build_func)
    def build(cfg: Any, *args: Any, registry: Registry, **kwargs: Any) -> Any:
        if isinstance(cfg, list):
            # As mmengine, which does not come by here for the items.
            items = (build(c, *args, registry=registry, **kwargs) for c in cfg)
            return Sequential(*items)
        cfg, key, asked = prepare(cfg, registry)
        outermost = _build.depth == 0
        _build.depth += 1
        try:
            built = build_func(cfg, *args, registry=registry, **kwargs)
            if isinstance(built, nn.Module):
                if key is not None:
                    mark(built, **key)
                if asked:
                    _build.asked.append(built)
                    _say_ignored(built, by_key=key is not None)
                _build.modules.append(built)
                formed = _form(built, last=False)
                _build.formed += formed
                if formed and getattr(built, '_is_init', False):
                    _warn(
                        f'{type(built).__name__} has loaded weights while it '
                        'was built: its children start with the kernel of '
                        'their parent all the same. Load them afterwards, by '
                        'init_cfg or load_from'
                    )
            if outermost:
                _complete()
            return built
        finally:
            _build.depth -= 1
            if outermost:
                _build.__init__()  # type: ignore[misc]

    build.forms_families_after = build_func  # type: ignore[attr-defined]
    return build


def _say_ignored(built: nn.Module, by_key: bool) -> None:
    """Some classes take a ``conv_cfg`` and give it to no layer."""
    if not any('kernel_dna' in vars(m) for m in built.modules()):
        what = 'conv_cfg. Its config takes kernel_dna=dict(...) instead.'
        _warn(
            f'No family forms in {type(built).__name__}: none of its layers '
            f'gets the {"kernel_dna." if by_key else what}'
        )


def _complete() -> None:
    """No larger module comes: report, on the largest modules, what remains.

    The one built last holds most others; those that it does not hold (a
    teacher that a detector hides from its state dict) are on their own.
    """
    held: set[nn.Module] = set()
    for module in reversed(_build.modules):
        if module not in held:
            inside = set(module.modules())
            held |= inside
            formed = [*_build.formed, *_form(module, last=True)]
            _tell(module, any(f.parent.module in inside for f in formed))
