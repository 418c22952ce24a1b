"""A derived kernel, kept for as long as nothing it came from changes."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

_SAMPLES = 64


class _Source(NamedTuple):
    """A tensor as it was: an alias, which keeps its memory, and marks."""

    alias: Tensor
    version: int
    sample: Tensor

    @classmethod
    def of(cls, tensor: Tensor) -> '_Source':
        return cls(tensor.detach(), tensor._version, _sample(tensor).clone())

    def is_still(self, tensor: Tensor) -> bool:
        return (
            self.version == tensor._version
            and self.alias.data_ptr() == tensor.data_ptr()
            and self.alias.dtype == tensor.dtype
            and self.alias.device == tensor.device
            and torch.equal(self.sample, _sample(tensor))
        )


def _sample(tensor: Tensor) -> Tensor:
    """Some values out of all of the tensor's memory."""
    step = max(tensor.numel() // _SAMPLES, 1)
    count = (tensor.numel() - 1) // step + 1
    return tensor.detach().as_strided((count,), (step,))


def _is_traceable(tensor: Tensor) -> bool:
    """Whether a change of a tensor can be noticed.

    A tensor of an inference mode has no version; reading values of another
    device would have the CPU wait for it.
    """
    return (
        not tensor.is_inference()
        and tensor.device.type == 'cpu'
        and (
            tensor.is_contiguous()
            or tensor.is_contiguous(memory_format=torch.channels_last)
        )
    )


class KernelCache:
    """Holds one kernel; for evaluation without gradients, on a CPU.

    A change of a source shows in its version or its memory, and where it was
    made through ``.data``, as of a moving average, in its values. On another
    device such a change would go unseen, so there nothing is kept.
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
        if not all(map(_is_traceable, sources)):
            self.clear()
            return compute()
        if self._kernel is None or not (
            len(sources) == len(self._sources)
            and all(
                kept.is_still(tensor)
                for kept, tensor in zip(self._sources, sources, strict=True)
            )
        ):
            # It may be used outside an inference mode that it is made in.
            with torch.inference_mode(False), torch.no_grad():
                self._sources = tuple(map(_Source.of, sources))
                self._kernel = compute()
        return self._kernel


def runs_eagerly() -> bool:
    """Whether a forward is run as it is, not traced, compiled or exported."""
    return not (torch.compiler.is_compiling() or torch.jit.is_tracing())
