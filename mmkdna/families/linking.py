"""Making the convs of a family parent and children; and finding them."""

import gc
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from mmengine.logging import print_log
from torch import nn

from ..layers import Adapter, KernelDNALayer
from .grouping import Family, Member, group_families, near_misses
from .sites import Owner, conv_sites

OUTSIDE = '(outside)'
when_formed: list[Callable[[nn.Module], None]] = []
"""What else a model with families needs, by who builds on them."""


def link(family: Family) -> None:
    """Give each child its parent and a new adapter.

    The adapter takes after the kernel it replaces: its device and dtype, and
    whether its stage is frozen.
    """
    parent = family.parent.module
    parent.become_parent()
    for _, child in family.children:
        policy = child.policy
        adapter = Adapter(
            child.in_channels,
            child.kernel_shape,
            policy.reduction,
            policy.norm,
            policy.gate,
        )
        _take_after(adapter, child)
        child.become_child(parent, adapter)


def _take_after(adapter: Adapter, child: KernelDNALayer) -> None:
    """Only where it has to change: a model may have a thousand children."""
    new, old = adapter.static.filter, child.weight
    if (new.device, new.dtype) != (old.device, old.dtype):
        adapter.to(old)
    if not child.training:
        adapter.eval()
    if not old.requires_grad:
        adapter.requires_grad_(False)


def form_families(
    model: nn.Module, owners: Iterable[Owner] = ()
) -> list[Family]:
    """Form the families of a complete model; a second time changes nothing.

    ``MODELS.build`` does this by itself. Call it in plain PyTorch code, when
    the model is complete and before the optimizer is made.

    Args:
        model: A model with convs of the type ``KernelDNA``.
        owners: Modules that got a ``conv_cfg``, where they are known; the
            names in ``families`` are relative to these, or to the model.

    Returns:
        All families of the model, as of :func:`list_families`.

    Raises:
        ValueError: If a list of sizes does not fit, or listed convs cannot
            share a kernel.
        KeyError: If ``families`` lists an unknown name.
    """
    with _no_garbage_collection():
        sites = conv_sites(model, owners)
        families = group_families(sites)
        for family in families:
            link(family)
        for listener in when_formed:
            listener(model)
    if families:
        print_log(_summary(model, families), 'current')
    for (owner, policy), misses in near_misses(sites).items():
        print_log(
            f'No family forms in {owner or type(model).__name__} under '
            f'conv_cfg={policy}, which stays an ordinary network. Nearest '
            f'misses: {misses}',
            'current',
            logging.WARNING,
        )
    return list_families(model)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Thousands of new objects would have it look at all, again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def list_families(model: nn.Module) -> list[Family]:
    """The families of a model, in order of their first member.

    Returns:
        For each family its parent and children as ``(name, module)``; a
        parent that is no part of ``model`` is named ``'(outside)'``.
    """
    convs = {
        module: name
        for name, module in model.named_modules()
        if isinstance(module, KernelDNALayer)
    }
    children: dict[KernelDNALayer, list[Member]] = {}
    for conv, name in convs.items():
        if conv.parent is not None:
            children.setdefault(conv.parent, []).append(Member(name, conv))
        elif conv.role == 'parent':
            children.setdefault(conv, [])
    return [
        Family(Member(convs.get(parent, OUTSIDE), parent), tuple(members))
        for parent, members in children.items()
    ]


def saved_parameters(child: KernelDNALayer) -> int:
    """How many parameters a child has less than its plain conv."""
    assert child.adapter is not None
    return math.prod(child.kernel_shape) - sum(
        p.numel() for p in child.adapter.parameters()
    )


def _summary(model: nn.Module, families: list[Family]) -> str:
    children = [conv for family in families for _, conv in family.children]
    # Equal ones save the same, and there may be a thousand.
    kinds = Counter((conv.kernel_shape, conv.policy) for conv in children)
    example = {(conv.kernel_shape, conv.policy): conv for conv in children}
    saved = sum(
        count * saved_parameters(example[kind])
        for kind, count in kinds.items()
    )
    total = sum(p.numel() for p in model.parameters())
    return (
        f'KernelDNA: {len(families)} families, {len(children)} children; '
        f'{total:,} parameters instead of {total + saved:,} '
        f'({-saved / (total + saved):+.1%})'
    )
