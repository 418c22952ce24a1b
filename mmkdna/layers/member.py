"""The members of a family: one parent, which owns the kernel, and children.

Source: KernelDNA, arXiv 2503.23379, method section.
"""

import logging
import math
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import mmcv.cnn
import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from .adapter import Adapter
from .kernel import Convolution, Linear, lean, trains_eagerly
from .kin import Kin
from .wrapped import check_checkpoint, check_loaded, check_whole, is_sharded

Derive = Callable[..., Tensor]
MAKE_WEIGHTS = (BasePruningMethod, SpectralNorm, WeightNorm)
"""Hooks that compute a layer's weight anew before each of its forwards."""


def _as_it_is(kernel: Tensor) -> Tensor:
    return kernel


class KernelDNALayer(nn.Module):
    """A parent or a child; it was a plain layer before.

    A parent computes what the plain layer does. A child has no ``weight``: its
    own ``adapter`` derives its kernel from the parent's.

    It is not an :class:`torch.nn.Conv2d` or :class:`torch.nn.Linear`, since
    code that finds one changes its kernel (``fuse_conv_bn`` would scale a
    whole family's). :mod:`mmkdna.openmmlab.disguise` has the exceptions.
    """

    plain_class: ClassVar[type[nn.Module]]
    family: Kin
    kernel_shape: tuple[int, ...]
    """``(C_out, C_in / groups, kh, kw)`` or ``(C_out, C_in)``."""
    adapter: Adapter | None
    bias: nn.Parameter | None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError(
            f'{type(self).__name__} cannot be built directly: a plain layer '
            'becomes one when its family forms. Use '
            "conv_cfg=dict(type='KernelDNA', ...), or mmkdna.KernelDNA(...)"
        )

    @property
    def role(self) -> str:
        """``'parent'`` or ``'child'``."""
        return 'parent' if self.adapter is None else 'child'

    @property
    def parent(self) -> 'KernelDNALayer | None':
        """The layer whose kernel a child uses; None for a parent.

        Raises:
            RuntimeError: If the parent is gone.
        """
        if self.adapter is None:
            return None
        parent = self.family.parent
        if parent is None:
            raise RuntimeError(
                f'a child with kernel shape {self.kernel_shape} has lost its '
                'parent, whose kernel it uses: its block was copied or taken '
                'out of the model without the parent. Keep or copy the whole '
                'model, or call mmkdna.revert(model) before you copy'
            )
        return parent

    @property
    def saved(self) -> int:
        """How many parameters the layer saves against the plain one."""
        if self.adapter is None:
            return 0
        own = sum(p.numel() for p in self.adapter.parameters())
        return math.prod(self.kernel_shape) - own

    def kernel(self) -> Tensor:
        """The kernel that the layer computes with, of ``kernel_shape``."""
        if self.adapter is None:
            return self.own_kernel()
        parent: Any = self.parent
        kernel: Tensor = self.adapter.static(parent.own_kernel())
        return kernel

    def own_kernel(self) -> Tensor:
        """A parent's kernel as the parent's forward sees it.

        Pruning, weight norm and spectral norm compute it in a hook before
        that forward. If a child runs first, it calls these hooks here.
        """
        if 'weight' not in self._parameters:
            for hook in self._forward_pre_hooks.values():
                if isinstance(hook, MAKE_WEIGHTS):
                    hook(self, None)
        weight: Tensor = self.weight  # type: ignore[assignment]
        return weight

    def hand_out(self, derive: Derive, *sources: Tensor) -> Tensor:
        """Derive a child's kernel inside the parent's FSDP2 unit.

        FSDP2 treats this as a forward of the parent: it gathers the kernel
        and reduces its gradient. See :func:`mmkdna.shard_families`.

        Raises:
            RuntimeError: If the kernel is still sharded.
        """
        kernel = self.own_kernel()
        check_whole(kernel, self.kernel_shape)
        return derive(kernel, *sources)

    def _ingredients(self, x: Tensor) -> tuple[Derive, tuple[Tensor, ...]]:
        """The function that derives a child's kernel, and its arguments."""
        parent: Any = self.parent
        static: Any = self.adapter.static  # type: ignore[union-attr]
        kernel, sources = parent.own_kernel(), static.sources()
        # torch.fx traces with proxies, not tensors.
        if not isinstance(x, Tensor):
            return static.derive, (kernel, *sources)
        if self.training and not torch.is_grad_enabled():
            check_checkpoint(kernel)
        if is_sharded(kernel, self.kernel_shape):
            return _as_it_is, (parent.hand_out(static.derive, *sources),)
        check_loaded(kernel, x)
        if kernel.device != x.device:
            # nn.DataParallel and device maps put members on several devices.
            kernel = kernel.to(x.device)
        return static.derive, (kernel, *sources)

    def _settle(self) -> None:
        """Freeze the kernel with any child, whose output must not change."""
        parent = self.family.parent
        if (
            not self.training
            or torch.compiler.is_compiling()
            or parent is None
            or not parent.is_trained
            or all(child.is_trained for child in self.family.children)
        ):
            return
        for parameter in parent._trained():
            parameter.requires_grad_(False)
        print_log(
            'KernelDNA: a child was frozen after its family had formed, so '
            f'its shared kernel {self.kernel_shape} is frozen, too. '
            'Layers that are frozen before families form share only with '
            'each other.',
            'current',
            logging.WARNING,
        )

    @property
    def is_trained(self) -> bool:
        """Whether the kernel, or a child's modulation of it, is trained."""
        return any(True for _ in self._trained())

    def _trained(self) -> Iterator[nn.Parameter]:
        layer = self if self.adapter is None else self.adapter.static
        own: Any = layer._parameters.items()
        if layer._modules:
            # It is parametrised. (named_parameters() is slow.)
            own = layer.named_parameters()
        for name, parameter in own:
            # Pruning and norms rename the weight, so test for the bias.
            trained = parameter is not None and parameter.requires_grad
            if trained and 'bias' not in name:
                yield parameter

    def reset_parameters(self) -> None:
        """Reset a parent like the plain layer, a child's adapter and bias."""
        if self.adapter is None:
            self.plain_class.reset_parameters(self)  # type: ignore
            return
        self.adapter.reset_parameters()
        if self.bias is not None:
            bound = math.prod(self.kernel_shape[1:]) ** -0.5
            nn.init.uniform_(self.bias, -bound, bound)

    def __getattr__(self, name: str) -> Any:
        if name == 'weight' and 'adapter' in self.__dict__['_modules']:
            raise AttributeError(
                'a KernelDNA child has no weight: its kernel comes from its '
                'parent, and its input is gated. Code that reads the weight '
                'would compute something else. Call the layer, or leave it '
                'out of the families'
            )
        return super().__getattr__(name)

    def __prepare_scriptable__(self) -> Any:
        raise RuntimeError(
            'torch.jit.script does not support families: a child uses its '
            "parent's kernel. Use torch.jit.trace or torch.export"
        )

    def extra_repr(self) -> str:
        plain = self.plain_class.extra_repr(self)  # type: ignore
        return f'{plain}, role={self.role!r}'


# No method: torch 2.4 would compile the call of one with all of the layer.
_conv_forward: Any = nn.Conv2d._conv_forward


class KernelDNAConv2d(KernelDNALayer):
    """A convolution of a family.

    A child computes ``conv2d(x * g(x), W_p * (1 + f) * (1 + s))`` with its
    parent's kernel ``W_p`` and the gate ``g``.
    """

    plain_class = nn.Conv2d
    # mmcv's ConvModule reads it.
    transposed = False

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``(N, C_in, H, W)`` or ``(C_in, H, W)``."""
        self._settle()
        if self.adapter is None:
            return _conv_forward(self, x, self.weight, self.bias)
        derive, sources = self._ingredients(x)
        gate = self.adapter.routing(x.mean((-2, -1)))[..., None, None]
        zeros = self.padding_mode == 'zeros' and type(self.padding) is tuple
        if zeros and trains_eagerly(x, *sources) and x.dim() == 4:
            operation = Convolution(
                self.stride, self.padding, self.dilation, self.groups
            )
            return lean(operation, derive, x, gate, self.bias, *sources)
        return _conv_forward(self, x * gate, derive(*sources), self.bias)


class KernelDNALinear(KernelDNALayer):
    """A linear layer of a family: a pointwise conv over the last axis.

    A child computes ``linear(x * g(x), W_p * (1 + f))``, where the gate g
    pools over all axes between the first and the last.
    """

    plain_class = nn.Linear

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, ..., C_in)`` to ``(N, ..., C_out)``."""
        self._settle()
        if self.adapter is None:
            return F.linear(x, self.weight, self.bias)
        if x.dim() == 1:
            return self(x[None])[0]
        derive, sources = self._ingredients(x)
        pixels = x[:, None] if x.dim() == 2 else x.flatten(1, -2)
        eager = trains_eagerly(x, *sources)
        # A mean of no pixels is NaN, and so would be the routing's gradients.
        empty = eager and pixels.shape[1] == 0
        pooled = pixels.sum(1) if empty else pixels.mean(1)
        gate = self.adapter.routing(pooled)[:, None]
        if eager:
            y = lean(Linear(), derive, pixels, gate, self.bias, *sources)
        else:
            y = F.linear(pixels * gate, derive(*sources), self.bias)
        return y.reshape(x.shape[:-1] + (self.kernel_shape[0],))


MEMBERS: dict[type[nn.Module], type[KernelDNALayer]] = {
    nn.Conv2d: KernelDNAConv2d,
    nn.Linear: KernelDNALinear,
    # nn's layers with a fix for empty inputs; mmcv's FFN uses them.
    mmcv.cnn.Conv2d: KernelDNAConv2d,
    mmcv.cnn.Linear: KernelDNALinear,
}
"""The class that a plain layer becomes in a family."""
