"""What a layer needs to be a member of a family.

Source: KernelDNA, arXiv 2503.23379, method section.
"""

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from .adapter import Adapter, gated, scale
from .cache import KernelCache, runs_eagerly
from .policy import Policy

_Layer = TypeVar('_Layer', bound='KernelDNALayer')


class KernelDNALayer(nn.Module):
    """A layer that is free, a parent or a child of a family.

    Free and parent own a ``weight``. A child has none: it derives its kernel
    from its parent's, through an ``adapter`` of its own. A new layer is free;
    families are formed later, when the model is complete.

    It is no :class:`torch.nn.Conv2d` or :class:`torch.nn.Linear`, since code
    that finds one takes its kernel for its own (``fuse_conv_bn`` would scale
    the kernel of a whole family).

    Args:
        plain: The ordinary layer whose parameters this one has, on the meta
            device.
        policy: What the ``conv_cfg`` says; None for the defaults.
        device: Where the parameters are; None for torch's default device.
    """

    in_channels: int
    out_channels: int
    kernel_size: tuple[int, int]
    stride: tuple[int, ...]
    groups: int
    residual: Tensor | None
    fade: Tensor | None

    def __init__(
        self,
        plain: nn.Conv2d | nn.Linear,
        policy: Policy | None,
        device: torch.device | str | None,
    ) -> None:
        super().__init__()
        self.policy = Policy() if policy is None else policy
        self.role = 'free'
        self._parent: tuple[KernelDNALayer, ...] = ()
        self.adapter: Adapter | None = None
        self.weight: nn.Parameter = plain.weight  # type: ignore[assignment]
        self.bias: nn.Parameter | None = plain.bias  # type: ignore[assignment]
        self.kernel_shape = tuple(plain.weight.shape)
        """``(C_out, C_in / groups, kh, kw)`` or, of a linear layer,
        ``(C_out, C_in)``; of a child as well."""
        # What a pretrained kernel has beyond the family's, while it fades.
        self.register_buffer('residual', None)
        self.register_buffer('fade', None)
        self.keeps_residual = False
        """Whether plain weights leave a residual here when they load."""
        self.fit_error: float | None = None
        """Of a child that plain weights were loaded into: how much of its
        own kernel the family's leaves, relative; see ``mmkdna.adoption``."""
        self._cache = KernelCache()
        self.to_empty(device=device or torch.empty(0).device)
        self.init_weights()

    @property
    def parent(self) -> 'KernelDNALayer | None':
        """The layer whose kernel a child uses; None if this is no child."""
        return self._parent[0] if self._parent else None

    def become_parent(self) -> None:
        self.role = 'parent'

    def become_child(self, parent: 'KernelDNALayer', adapter: Adapter) -> None:
        """Give up the kernel for a parent's, seen through an adapter."""
        self.role = 'child'
        self.weight = None  # type: ignore[assignment]
        # In a tuple, so that nn.Module does not register the parent here:
        # its kernel would be in the state dict and the optimizer twice.
        self._parent = (parent,)
        self.adapter = adapter

    def hold_residual(self, residual: Tensor | None = None) -> None:
        """Add ``(1 - fade) * residual`` to the kernel, the fade at 0.

        Args:
            residual: Of the shape ``kernel_shape``; None for zeros, to be
                loaded.
        """
        like = self.weight if self.adapter is None else self._parent[0].weight
        if residual is None:
            residual = torch.zeros_like(like)
        self.residual = residual.detach().to(like)
        self.fade = like.new_zeros(())

    def drop_residual(self) -> None:
        self.residual = self.fade = None

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, *args: Any
    ) -> None:
        if f'{prefix}residual' in state_dict:
            if self.residual is None:
                self.hold_residual()
        elif any(key.startswith(prefix) for key in state_dict):
            self.drop_residual()
        self._cache.clear()
        super()._load_from_state_dict(state_dict, prefix, *args)

    def init_weights(self) -> None:
        """The kernel as in the plain network; the adapter at its start."""
        raise NotImplementedError

    def kernel(self) -> Tensor:
        """The kernel in use, of the shape ``kernel_shape``.

        Evaluated without gradients, a child's is kept until one of the
        tensors that it comes from changes.
        """
        if self.adapter is None and self.residual is None:
            return self.weight
        if (
            self.training
            or torch.is_grad_enabled()
            or not self.policy.cache_kernels
            or not runs_eagerly()
        ):
            return self._derive_kernel()
        return self._cache.get(self._kernel_sources(), self._derive_kernel)

    def _derive_kernel(self) -> Tensor:
        if self.adapter is None:
            kernel: Tensor = self.weight
        else:
            kernel = self.adapter.static(self._parent[0].weight)
        if self.residual is None or self.fade is None:
            return kernel
        return kernel + (1 - self.fade) * self.residual

    def _kernel_sources(self) -> list[Tensor]:
        """All that :meth:`_derive_kernel` reads."""
        if self.adapter is None:
            sources = [self.weight]
        else:
            static = self.adapter.static
            sources = [self._parent[0].weight, *static.parameters()]
        return sources + [
            tensor
            for tensor in (self.residual, self.fade)
            if tensor is not None
        ]

    def with_gate(self, x: Tensor, gate: Tensor) -> tuple[Tensor, Tensor]:
        """The input and the kernel of a child, one of them with the gate.

        Both give the same result for a single image; then the smaller of the
        two is scaled.

        Args:
            x: The input.
            gate: ``(N, C_in)``, in the shape that broadcasts to x.
        """
        kernel = self.kernel()
        if (
            runs_eagerly()
            and not torch.is_grad_enabled()
            and self.groups == 1
            and len(x) == 1
            and kernel.numel() < x.numel()
        ):
            axes = [1] * (kernel.dim() - 2)
            return x, scale(kernel, gate.view(1, -1, *axes))
        return gated(x, gate), kernel

    def train(self: _Layer, mode: bool = True) -> _Layer:
        self._cache.clear()
        return super().train(mode)

    def _apply(self: _Layer, *args: Any, **kwargs: Any) -> _Layer:
        self._cache.clear()
        return super()._apply(*args, **kwargs)

    def __getstate__(self) -> dict:
        # A copy makes its own.
        return {**self.__dict__, '_cache': KernelCache()}
