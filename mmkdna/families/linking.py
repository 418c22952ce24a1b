"""Turn plain layers into members of a family, and back, in place."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..layers import Adapter, KernelDNALayer
from ..layers.kin import Kin
from ..layers.member import MEMBERS
from .grouping import Family
from .sites import Kind


def link(family: Family, kinds: Mapping[nn.Module, Kind]) -> None:
    """Turn a family's plain layers into members; children drop their kernels.

    Args:
        family: Plain layers, each of a class in :data:`MEMBERS`.
        kinds: The kind of each of these layers.
    """
    parent: Any = family.parent.module
    children: list[Any] = [layer for _, layer in family.children]
    kin = Kin([parent, *children])
    for layer in (parent, *children):
        kind, adapter = kinds[layer], None
        if layer is not parent:
            # It has device, dtype and mode of the kernel that it replaces.
            adapter = Adapter(*kind.adapter).to(layer.weight)
            adapter.train(layer.training).requires_grad_(kind.trained)
            del layer._parameters['weight']
        layer.__class__ = MEMBERS[type(layer)]
        layer.kernel_shape, layer.family = kind.shape, kin
        layer.adapter = adapter
        # So torch.fx does not trace into it, as with a plain layer.
        layer.__module__ = 'torch.nn'


def unlink(member: KernelDNALayer, kernel: Tensor | None) -> None:
    """Turn a member into the plain layer again.

    Args:
        member: A parent or a child.
        kernel: A child's new weight; None for a parent, which has a weight.
    """
    trained = member.is_trained
    made = ('adapter', 'family', 'kernel_shape', '__module__', 'kernel_dna')
    for name in made:
        delattr(member, name)
    member.__class__ = member.plain_class  # type: ignore[assignment]
    if kernel is not None:
        weight = nn.Parameter(kernel, requires_grad=trained)
        # Weight before bias, as in a plain layer.
        bias = member._parameters.pop('bias')
        member._parameters.update(weight=weight, bias=bias)
