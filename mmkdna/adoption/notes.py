"""What a state dict says of a model's families, in its metadata."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from ..errors import check
from ..layers import KernelDNALayer

PARENTS = 'kernel_dna_families'
"""The key for the parent of each child."""
GATES = 'kernel_dna_gates'
"""The key for the gate of each child, as in a ``conv_cfg``."""
BAKED = 'kernel_dna_baked'
"""The key for a baked model."""


def members(module: nn.Module) -> dict[str, KernelDNALayer]:
    """The members in a module; one with several names is there with each."""
    # Not isinstance: while a model initialises, members are disguised.
    return {
        name: layer  # type: ignore[misc]
        for name, layer in module.named_modules(remove_duplicate=False)
        if 'family' in vars(layer)
    }


def describe(module: nn.Module) -> dict[str, dict[str, str]]:
    """The notes ``PARENTS`` and ``GATES`` of a module, each by name.

    A parent outside of the module is ``''``.
    """
    found: dict[str, Any] = members(module)
    names = {layer: name for name, layer in reversed(found.items())}
    children = {n: m for n, m in found.items() if m.adapter is not None}
    return {
        PARENTS: {
            name: names.get(child.family.parent, '')
            for name, child in children.items()
        },
        GATES: {
            name: child.kernel_dna.gate for name, child in children.items()
        },
    }


def note(
    module: nn.Module, state: Any, prefix: str, local_metadata: dict
) -> None:
    """A hook on a state dict: the outermost module's metadata has them."""
    for key, metadata in getattr(state, '_metadata', {}).items():
        if key.startswith(prefix):
            metadata.pop(PARENTS, None)
            metadata.pop(GATES, None)
    local_metadata.update(describe(module))


def noted(metadata: Mapping, key: str) -> dict[str, str] | None:
    """What a checkpoint says of its children, by name; None if nothing.

    Raises:
        BadInput: If it is no dict of texts.
    """
    found = metadata.get(key)
    texts = isinstance(found, dict) and all(
        isinstance(text, str) for item in found.items() for text in item
    )
    check(
        f'the metadata {key}', found, found is None or texts, 'a dict of str'
    )
    return found
