"""Families under FSDP: gather a parent's kernel whenever a child needs it."""

from collections.abc import Callable
from typing import Any

from mmengine.registry import FUNCTIONS
from torch import nn
from torch.distributed.fsdp import wrap

from .families import list_families
from .layers import Adapter, KernelDNALayer, StaticModulation


def shard_families(model: nn.Module, **kwargs: Any) -> nn.Module:
    """Make each parent an FSDP2 unit that gives its kernel to its children.

    Call it before ``fully_shard``. You need it if a family is in more than
    one unit (one for each block, for example). Else it does no harm.

    Args:
        model: A model with families; changed in place.
        **kwargs: The arguments of ``fully_shard`` for the other units.

    Returns:
        The same model.
    """
    module = fsdp2()
    for family in list_families(model):
        module.fully_shard(family.parent.module, **kwargs)
        module.register_fsdp_forward_method(family.parent.module, 'hand_out')
    return model


def fsdp2() -> Any:
    """The module with ``fully_shard``, which torch moved after 2.4."""
    from torch.distributed import fsdp

    if hasattr(fsdp, 'fully_shard'):
        return fsdp
    from torch.distributed._composable import fsdp as first

    return first


@FUNCTIONS.register_module('whole_families', force=True)
def whole_families(
    module: nn.Module,
    recurse: bool,
    nonwrapped_numel: int,
    policy: str | Callable = 'size_based_auto_wrap_policy',
    **kwargs: Any,
) -> bool:
    """A wrap policy for FSDP1 that uses another policy and cuts no family.

    In a config: ``auto_wrap_policy=dict(type='whole_families',
    policy=..., ...)``. A module with only a part of a family never becomes a
    unit. Nor does a head: OpenMMLab calls its ``loss``, and FSDP gathers
    weights for ``forward`` only.

    Args:
        module, recurse, nonwrapped_numel: FSDP's arguments of a policy.
        policy: The policy that selects the units: a function, or the name of
            one in :mod:`torch.distributed.fsdp.wrap` or in mmengine's
            registry ``FUNCTIONS``.
        **kwargs: Arguments of that policy.
    """
    ask: Any = policy
    if isinstance(policy, str):
        ask = FUNCTIONS.get(policy) or getattr(wrap, policy)
    chosen = ask(
        module=module,
        recurse=recurse,
        nonwrapped_numel=nonwrapped_numel,
        **kwargs,
    )
    never = hasattr(module, 'loss') or _cuts_a_family(module)
    return bool(chosen) and (recurse or not never)


def _cuts_a_family(module: nn.Module) -> bool:
    # A child reads their parameters without calling their forward.
    if isinstance(module, (Adapter, StaticModulation)):
        return True
    inside = set(module.modules())
    return any(
        not layer.family.is_within(inside)
        for layer in inside
        if isinstance(layer, KernelDNALayer)
    )
