"""Convert any PyTorch model to KernelDNA, and revert it."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from ..errors import BadInput
from ..families import Family, form_families, group_families, mark, sites
from ..families.linking import unlink
from ..families.sites import Site
from ..layers import KernelDNALayer
from ..layers.member import MEMBERS
from ..openmmlab.log import near_misses
from .state_dict import distance, log_loss


def convert(
    model: nn.Module, linear: bool = False, **conv_cfg: Any
) -> nn.Module:
    """Turn the eligible layers of a model into families, in place.

    Parents keep their kernels. A child starts with its parent's kernel, so
    you have to train a trained model again. The log says how much of the
    children's own kernels is lost.

    Args:
        model: Any module with ``nn.Conv2d`` layers; changed in place.
        linear: Whether ``nn.Linear`` layers can share, too. They act as 1 x 1
            convs on the last axis, so they need ``kernel_sizes=(1,)``.
        **conv_cfg: As in a config, see :class:`mmkdna.layers.Settings`.

    Returns:
        The same model.

    Raises:
        BadInput: If an argument is unknown or out of its range, or no family
            forms. The model does not change then.
    """
    marked = {m for m in model.modules() if 'kernel_dna' in vars(m)}
    mark(model, linear, **conv_cfg)
    new = {m for m in model.modules() if 'kernel_dna' in vars(m)} - marked
    kernels: dict[Any, Any] = {layer: layer.weight for layer in new}
    try:
        found = [site for site in sites(model) if site.layer in new]
        possible_families(model, found, conv_cfg)
        families = form_families(model)
    finally:
        for layer in new:
            if 'family' not in vars(layer):
                layer.__dict__.pop('kernel_dna', None)
    log_loss(
        {
            name: distance(kernels[layer], layer.kernel())
            for family in families
            for name, layer in family.children
            if layer in kernels
        }
    )
    return model


def possible_families(
    model: nn.Module, found: Sequence[Site], conv_cfg: Mapping[str, Any]
) -> list[Family]:
    """The families that marked layers would form.

    Raises:
        BadInput: If there is none; it says which layers nearly can share.
    """
    families = group_families(found)
    if not families:
        misses = '; '.join(near_misses(found).values())
        raise BadInput(
            f'{type(model).__name__}: no layers can share a kernel under '
            f'{conv_cfg}. Nearest misses: {misses or _without_plain(model)}'
        )
    return families


def _without_plain(model: nn.Module) -> str:
    layers = list(model.modules())
    if any('kernel_dna' in vars(layer) for layer in layers):
        return 'its layers have their settings already'
    others = {type(m).__name__ for m in layers if isinstance(m, nn.Conv2d)}
    if not others:
        return 'it has no convolutions'
    return (
        f'its convolutions are {", ".join(sorted(others))}, subclasses of '
        'nn.Conv2d, which may use their kernels in another way. Replace those '
        'that do not by nn.Conv2d'
    )


def revert(model: nn.Module) -> nn.Module:
    """Turn members into plain layers again, with the kernels that they use.

    Args:
        model: A model with families; changed in place. It has no families
            afterwards.

    Returns:
        The same model.

    Raises:
        BadInput: If a child's gate is not exactly 1 for every input (no plain
            layer computes the same), if a family has a member outside of the
            model, or if a member is parametrised. The model does not change
            then.
    """
    members = members_alone(model)
    children = {n: m for n, m in members.items() if m.adapter is not None}
    _refuse(
        [n for n, m in children.items() if not m.adapter.routing.is_open()],
        'the gates of these layers depend on their input, so no plain layer '
        'computes the same',
        "Only a model whose gates are exactly 1 (gate='identity', not "
        'trained) can be reverted.',
    )
    kernels = {m: m.kernel().detach().clone() for m in children.values()}
    for layer in members.values():
        unlink(layer, kernels.get(layer))
    return model


def members_alone(model: nn.Module) -> dict[str, Any]:
    """All members of a model, by name, if they can become plain layers.

    Raises:
        BadInput: If a family has a member elsewhere, or one is parametrised.
    """
    members: dict[str, Any] = {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, KernelDNALayer)
    }
    inside = set(members.values())
    _refuse(
        [
            name
            for name, layer in members.items()
            if not layer.family.is_within(inside)
        ],
        'the families of these layers have members elsewhere, or have lost '
        'their parent',
        'Take the whole model',
    )
    _refuse(
        [n for n, m in members.items() if type(m) not in MEMBERS.values()],
        'the weights of these layers are parametrised',
        'Remove that first (parametrize.remove_parametrizations)',
    )
    return members


def _refuse(names: list[str], why: str, then: str) -> None:
    if names:
        raise BadInput(f'{why}: {", ".join(names)}. {then}')
