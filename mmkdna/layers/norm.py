"""The norm between the two linear layers of a routing or an attention."""

import torch
from torch import Tensor, nn


class _BatchNorm(nn.BatchNorm1d):
    """Over the images of a batch, and so not over a single one."""

    def forward(self, input: Tensor) -> Tensor:
        if input.dim() == 1:
            return self(input[None])[0]
        if self.training and len(input) == 1:
            raise ValueError(
                "norm='BN': expected two images or more a step, got one: over "
                'the images of a batch it has nothing to normalise. Use '
                "norm='LN' in the conv_cfg"
            )
        if self.training and _in_backward():
            # Activation checkpointing computes the forward again; the
            # statistics have counted this batch already. With copies of
            # them, as it compares how many tensors are saved.
            mean, var, _ = (buffer.clone() for buffer in self.buffers())
            return nn.functional.batch_norm(
                input, mean, var, self.weight, self.bias, True, 0.0, self.eps
            )
        return super().forward(input)


def _in_backward() -> bool:
    if torch.compiler.is_compiling():
        return False
    # No public name tells it.
    return torch._C._current_graph_task_id() != -1


NORMS = {'LN': nn.LayerNorm, 'BN': _BatchNorm, None: nn.Identity}
"""Norms of ``(N, channels)``, by their names in a ``conv_cfg``."""
