"""The norm between the two linear layers of a routing or an attention."""

import torch
from torch import Tensor, nn


class _BatchNorm(nn.BatchNorm1d):
    """BatchNorm over the images of a batch; training needs two or more."""

    def forward(self, input: Tensor) -> Tensor:
        if input.dim() == 1:
            return self(input[None])[0]
        if self.training and len(input) == 1:
            raise ValueError(
                "norm='BN': expected two or more images in a batch, got one: "
                'BatchNorm cannot normalise over one image. Use '
                "norm='LN' in the conv_cfg"
            )
        if self.training and _in_backward():
            # Activation checkpointing computes this forward again, so do not
            # count the batch twice. Copies of the statistics, not None: it
            # compares how many tensors are saved.
            mean, var, _ = (buffer.clone() for buffer in self.buffers())
            return nn.functional.batch_norm(
                input, mean, var, self.weight, self.bias, True, eps=self.eps
            )
        return super().forward(input)


def _in_backward() -> bool:
    if torch.compiler.is_compiling():
        return False
    # There is no public API for this.
    return torch._C._current_graph_task_id() != -1


NORMS = {'LN': nn.LayerNorm, 'BN': _BatchNorm, None: nn.Identity}
"""Norms of ``(N, channels)``, by name in a ``conv_cfg``."""
