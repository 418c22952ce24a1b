"""What wrappers do to a parent's kernel: DDP, FSDP, offloading."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn.parallel import DistributedDataParallel


def is_sharded(kernel: Tensor, shape: Sequence[int]) -> bool:
    """Whether FSDP2, or FSDP1, holds only a piece of a kernel here."""
    return kernel.dim() != len(shape) or _is_dtensor(kernel)


def check_checkpoint(kernel: Tensor) -> None:
    """Refuse reentrant checkpoints where their gradients would go wrong.

    They compute a forward in training without gradients first. DDP fails in
    the backward where several of them use one kernel; FSDP2 loses gradients.

    Raises:
        RuntimeError: With what to add.
    """
    if not kernel.requires_grad:
        return
    if _is_dtensor(kernel):
        raise RuntimeError(
            'a family that FSDP2 shards is computed in training without '
            'gradients, as reentrant checkpoints do: its gradients would be '
            'lost. Use torch.utils.checkpoint with use_reentrant=False'
        )
    ddp = DistributedDataParallel._active_ddp_module
    if ddp is not None and not ddp.static_graph:
        raise RuntimeError(
            'several activation checkpoints (with_cp=True) use one kernel, '
            'which DDP takes for a mistake. Add to the config '
            "model_wrapper_cfg=dict(type='MMDistributedDataParallel', "
            'static_graph=True), or give DistributedDataParallel '
            'static_graph=True'
        )


def check_whole(kernel: Tensor, shape: Sequence[int]) -> None:
    """Refuse a kernel that is sharded while a child computes.

    Raises:
        RuntimeError: With how to have it gathered.
    """
    if is_sharded(kernel, shape):
        raise RuntimeError(
            f'the kernel {shape} of a family is sharded where one of its '
            'children computes. FSDP2: call mmkdna.shard_families(model) '
            'before fully_shard. FSDP1: wrap with '
            "auto_wrap_policy=dict(type='whole_families', ...)"
        )


def check_loaded(kernel: Tensor, x: Tensor) -> None:
    """Refuse a kernel that is offloaded while a child computes.

    Raises:
        RuntimeError: With how to keep a family together.
    """
    if kernel.is_meta and not x.is_meta:
        raise RuntimeError(
            f'the kernel {tuple(kernel.shape)} of a family is offloaded where '
            'one of its children computes: keep a family together '
            '(accelerate: preload_module_classes)'
        )


def _is_dtensor(kernel: Tensor) -> bool:
    # Its module is another one under torch 2.4.
    return hasattr(kernel, 'full_tensor')
