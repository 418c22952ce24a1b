"""A derived kernel, kept for as long as nothing it came from changes."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class _Source(NamedTuple):
    """A tensor as it was: an alias, which keeps its memory, and a version."""

    alias: Tensor
    version: int

    def is_still(self, tensor: Tensor) -> bool:
        return (
            self.version == tensor._version
            and self.alias.data_ptr() == tensor.data_ptr()
            and self.alias.dtype == tensor.dtype
            and self.alias.device == tensor.device
        )


class KernelCache:
    """Holds one kernel; in use without gradients only.

    A change of a source shows in its version or its memory. What torch does
    not see (an edit through ``.data``, as of an EMA swap) needs
    :meth:`clear`, which a layer's ``train``, ``eval``, ``to`` and loading
    call.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self._kernel: Tensor | None = None
        self._sources: tuple[_Source, ...] = ()

    def get(
        self, sources: Sequence[Tensor], compute: Callable[[], Tensor]
    ) -> Tensor:
        """The kernel, computed where none of these sources is kept.

        Args:
            sources: All tensors that ``compute`` reads.
            compute: Makes the kernel.
        """
        if any(tensor.is_inference() for tensor in sources):
            # They have no version.
            return compute()
        if self._kernel is None or not (
            len(sources) == len(self._sources)
            and all(
                kept.is_still(tensor)
                for kept, tensor in zip(self._sources, sources, strict=True)
            )
        ):
            self._sources = tuple(
                _Source(tensor.detach(), tensor._version) for tensor in sources
            )
            # It may be used outside an inference mode that it is made in.
            with torch.inference_mode(False), torch.no_grad():
                self._kernel = compute()
        return self._kernel


def runs_eagerly() -> bool:
    """Whether a forward is run as it is, not traced, compiled or exported."""
    return not (torch.compiler.is_compiling() or torch.jit.is_tracing())
