"""The members of a family, as weak references."""

import weakref
from collections.abc import Sequence, Set
from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from .member import KernelDNALayer


class Kin:
    """Weak references to a family's members, the parent first.

    A block that is copied without the parent then finds no parent. With a
    strong reference it would use a kernel that is in neither its parameters
    nor its state dict.
    """

    _members: list[weakref.ref]

    def __init__(self, members: Sequence['KernelDNALayer']):
        self.__setstate__(members)

    def __getstate__(self) -> list[Any]:
        return [reference() for reference in self._members]

    def __setstate__(self, members: Sequence[Any]) -> None:
        # For a member that is gone: a reference that is dead at once.
        found = (nn.Module() if m is None else m for m in members)
        self._members = [weakref.ref(member) for member in found]

    @property
    def parent(self) -> 'KernelDNALayer | None':
        return self._members[0]()

    @property
    def children(self) -> list['KernelDNALayer']:
        """The children that still exist."""
        return [
            child for child in self.__getstate__()[1:] if child is not None
        ]

    def is_within(self, modules: Set[nn.Module]) -> bool:
        """Whether the parent and all children that still exist are there."""
        return {self.parent, *self.children} <= modules
