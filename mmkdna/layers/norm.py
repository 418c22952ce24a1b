"""The norm between the two linear layers of a routing or an attention."""

from torch import Tensor, nn

NORMS = ('LN', 'BN', None)


class _BatchNorm(nn.BatchNorm1d):
    """Over the images of a batch, and so not over a single one."""

    def _check_input_dim(self, input: Tensor) -> None:
        super()._check_input_dim(input)
        if self.training and input.shape[0] == 1:
            raise ValueError(
                "norm='BN': expected two images or more a step, got one: over "
                'the images of a batch it has nothing to normalise. Use '
                "norm='LN' in the conv_cfg"
            )


def build_norm(norm: str | None, channels: int) -> nn.Module:
    """A norm of ``(N, channels)``.

    Args:
        norm: ``'LN'``, ``'BN'`` or None for none.
        channels: Its width.
    """
    kinds = {'LN': nn.LayerNorm, 'BN': _BatchNorm, None: nn.Identity}
    return kinds[norm](channels)
