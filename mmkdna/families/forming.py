"""Form families in a module: group the layers, then link them."""

import logging
from collections.abc import Callable, Container

from mmengine.logging import print_log
from torch import nn

from .grouping import Family, group_families, list_families
from .linking import link
from .sites import sites, weighs_more

when_built: list[Callable[[nn.Module], None]] = []
"""Functions that are called with every module that a registry builds."""

when_complete: list[Callable[[nn.Module, bool, Container[int]], None]] = []
"""Functions that are called with a complete model: see :func:`complete`."""


def form_families(model: nn.Module) -> list[Family]:
    """Form the families of a complete model; a second call changes nothing.

    Models from a registry have their families already. Call this in plain
    PyTorch code, after the model is built and before the optimizer is made.

    Args:
        model: A model with marked layers.

    Returns:
        All families of the model, as :func:`list_families` returns them.

    Raises:
        BadInput: If a list of sizes does not fit, or listed layers are
            unknown or cannot share a kernel.
    """
    complete(model)
    return list_families(model)


def complete(
    model: nn.Module, formed: bool = False, asked: Container[int] = ()
) -> None:
    """Form the remaining families of a complete model, and log them.

    Args:
        model: A model with marked layers.
        formed: Whether families formed in its parts during this build.
        asked: Ids of the modules whose configs have settings.
    """
    formed |= bool(form(model, last=True))
    for listener in when_complete:
        listener(model, formed, asked)


def form(model: nn.Module, last: bool) -> list[Family]:
    """Form the families that can be formed, and return them.

    Args:
        model: A module with marked layers.
        last: As in :func:`group_families`.
    """
    families = group_families(sites(model), last)
    if families:
        # Some networks freeze their stages in train().
        modes = [(module, module.training) for module in model.modules()]
        model.train(model.training)
        for module, mode in modes:
            module.training = mode
        found = sites(model)
        families = group_families(found, last)
        kinds = {site.layer: site.kind for site in found}
        for family in families:
            for name, layer in family.children:
                if reason := weighs_more(kinds[layer]):
                    print_log(
                        f'KernelDNA: {name} as a child: {reason}. Leave it '
                        'out of families, or raise reduction.',
                        'current',
                        logging.WARNING,
                    )
            link(family, kinds)
        done = {family.parent.module.kernel_dna for family in families}
        for site in found:
            # The names are those of this module; no later build has more.
            listed = site.kind.settings.families and not site.is_member
            if listed and site.kind.settings in done:
                del site.layer.kernel_dna
    for listener in when_built:
        listener(model)
    return families
