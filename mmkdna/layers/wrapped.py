"""Checks of a parent's kernel under DDP, FSDP and offloading."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn.parallel import DistributedDataParallel


def is_sharded(kernel: Tensor, shape: Sequence[int]) -> bool:
    """Whether this process has only a shard of a kernel, of FSDP1 or 2."""
    return kernel.dim() != len(shape) or _is_dtensor(kernel)


def check_checkpoint(kernel: Tensor) -> None:
    """Refuse reentrant checkpoints if their gradients would be wrong.

    They first run the forward without gradients. If several of them use one
    kernel, DDP fails in the backward, and FSDP2 loses gradients.

    Raises:
        RuntimeError: It says what to add to the config.
    """
    if not kernel.requires_grad:
        return
    if _is_dtensor(kernel):
        raise RuntimeError(
            'a family sharded by FSDP2 runs in training without gradients, '
            'as in a reentrant checkpoint: its gradients would be '
            'lost. Use torch.utils.checkpoint with use_reentrant=False'
        )
    ddp = DistributedDataParallel._active_ddp_module
    if ddp is not None and not ddp.static_graph:
        raise RuntimeError(
            'several activation checkpoints (with_cp=True) use one kernel, '
            'which DDP does not allow. Add to the config '
            "model_wrapper_cfg=dict(type='MMDistributedDataParallel', "
            'static_graph=True), or give DistributedDataParallel '
            'static_graph=True'
        )


def check_whole(kernel: Tensor, shape: Sequence[int]) -> None:
    """Refuse a kernel that is sharded while a child computes.

    Raises:
        RuntimeError: It says how to gather the kernel.
    """
    if is_sharded(kernel, shape):
        raise RuntimeError(
            f'the kernel {shape} of a family is sharded while a child '
            'needs it. FSDP2: call mmkdna.shard_families(model) '
            'before fully_shard. FSDP1: wrap with '
            "auto_wrap_policy=dict(type='whole_families', ...)"
        )


def check_loaded(kernel: Tensor, x: Tensor) -> None:
    """Refuse a kernel that is offloaded while a child computes.

    Raises:
        RuntimeError: It says how to keep a family together.
    """
    if kernel.is_meta and not x.is_meta:
        raise RuntimeError(
            f'the kernel {tuple(kernel.shape)} of a family is offloaded while '
            'a child needs it: keep a family together '
            '(accelerate: preload_module_classes)'
        )


def _is_dtensor(kernel: Tensor) -> bool:
    # Not isinstance: torch 2.4 has DTensor in another module.
    return hasattr(kernel, 'full_tensor')
