"""BatchNorm in the routing: its statistics, and what it refuses."""

import copy

import pytest
import torch
from pairs import pair
from torch.utils.checkpoint import checkpoint

from mmkdna.layers.norm import NORMS


def test_batch_norm_of_one_image_says_that_it_needs_two():
    child, _ = pair(padding=1, norm='BN')
    for shape in ((1, 8, 4, 4), (8, 4, 4)):
        with pytest.raises(ValueError, match="norm='LN' in the conv_cfg"):
            child(torch.randn(shape))


@pytest.mark.parametrize('use_reentrant', [True, False])
def test_checkpointing_counts_batch_statistics_once(use_reentrant):
    child, model = pair(padding=1, norm='BN')
    child.adapter.routing.norm.eps = 0.1
    other = copy.deepcopy(model)
    x = torch.randn(3, 8, 5, 5, requires_grad=True)
    for _ in range(2):
        model(x).square().sum().backward()
        checkpoint(
            other, x, use_reentrant=use_reentrant
        ).square().sum().backward()
    assert child.adapter.routing.norm.num_batches_tracked == 2
    for ours, theirs in zip(model.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(theirs, ours)
    for ours, theirs in zip(
        model.parameters(), other.parameters(), strict=True
    ):
        torch.testing.assert_close(theirs.grad, ours.grad)


def test_a_compiled_norm_counts_batch_statistics():
    norm, x = NORMS['BN'](8), torch.randn(3, 8)
    other = copy.deepcopy(norm)
    compiled = torch.compile(norm, fullgraph=True, backend='eager')
    torch.testing.assert_close(compiled(x), other(x))
    for ours, theirs in zip(norm.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs)
