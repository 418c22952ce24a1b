"""Families under FSDP: a parent's kernel at hand whenever a child computes."""

from collections.abc import Callable
from typing import Any

from mmengine.registry import FUNCTIONS
from torch import nn
from torch.distributed.fsdp import wrap

from .families import list_families
from .layers import Adapter, KernelDNALayer, StaticModulation


def shard_families(model: nn.Module, **kwargs: Any) -> nn.Module:
    """Make each parent a unit of FSDP2 that hands out its kernel.

    Call it before ``fully_shard``. It is needed where a family lies in more
    than one unit, such as one a block, and does no harm elsewhere.

    Args:
        model: A model with families; changed in place.
        **kwargs: As of ``fully_shard`` for the other units.

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
    """A policy of FSDP1 by another one, which cuts no family.

    In a config: ``auto_wrap_policy=dict(type='whole_families',
    policy=..., ...)``.

    Args:
        module, recurse, nonwrapped_numel: What FSDP asks about.
        policy: Which modules become units: a function of
            :mod:`torch.distributed.fsdp.wrap` or of mmengine's registry
            ``FUNCTIONS``, as itself or by its name. Neither a module that
            holds only a part of a family does, nor a head: OpenMMLab calls
            its ``loss``, which gathers nothing.
        **kwargs: Of that policy.
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
    # A child reads its modulation without a call.
    if isinstance(module, (Adapter, StaticModulation)):
        return True
    inside = set(module.modules())
    return any(
        not inside.issuperset([layer.family.parent, *layer.family.children])
        for layer in inside
        if isinstance(layer, KernelDNALayer)
    )
