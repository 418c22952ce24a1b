"""Who belongs to a family."""

import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from .member import KernelDNALayer


class Kin:
    """Who belongs to a family, the parent first; keeps nobody alive.

    A block that is copied out of its model without the parent finds none,
    instead of using a kernel that is in neither its parameters nor its state
    dict.
    """

    _members: list[weakref.ref]

    def __init__(self, members: Sequence['KernelDNALayer']):
        self.__setstate__(members)

    def __getstate__(self) -> list[Any]:
        return [reference() for reference in self._members]

    def __setstate__(self, members: Sequence[Any]) -> None:
        # Of those that are gone already, a reference to nobody.
        found = (nn.Module() if m is None else m for m in members)
        self._members = [weakref.ref(member) for member in found]

    @property
    def parent(self) -> 'KernelDNALayer | None':
        return self._members[0]()

    @property
    def children(self) -> list['KernelDNALayer']:
        """Those that are still there."""
        return [
            child for child in self.__getstate__()[1:] if child is not None
        ]
