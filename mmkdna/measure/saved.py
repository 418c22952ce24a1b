"""What a forward in training keeps for the backward."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..adoption import revert
from ..errors import BadInput


def saved_bytes(model: nn.Module, forward: Callable[[], object]) -> int:
    """Memory that a forward holds for the backward, in bytes.

    Each storage counts once; those of parameters and buffers do not.

    Args:
        model: Whose parameters and buffers are left out.
        forward: Computes with gradients.
    """
    own = {
        tensor.untyped_storage().data_ptr()
        for tensor in (*model.parameters(), *model.buffers())
    }
    saved: dict[int, int] = {}
    # A storage that is freed could give its address to the next.
    alive = []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
            alive.append(storage)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        result = forward()
    del result
    return sum(saved.values())


def equalise(plain: nn.Module, ours: nn.Module) -> bool:
    """Have a plain network compute what a KernelDNA one does at its start.

    A two-stage detector keeps something for each RoI, and which RoIs it
    samples depends on its weights: only equal functions keep the same.

    Args:
        plain: The plain twin; its weights are replaced.
        ours: With its adapters at their start; left as it is.

    Returns:
        Whether it could: not with trained gates, nor with the authors'
        sigmoid, nor if the twin has other layers.
    """
    try:
        state = revert(copy.deepcopy(ours)).state_dict()
    except BadInput:
        return False
    shapes = {key: value.shape for key, value in state.items()}
    if shapes != {k: v.shape for k, v in plain.state_dict().items()}:
        return False
    plain.load_state_dict(state)
    return True
