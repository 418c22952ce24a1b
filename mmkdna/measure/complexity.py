"""Parameters and multiply-adds of a model."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..errors import BadInput

_MASKS = 100


def parameters(model: nn.Module) -> int:
    """The number of parameters of a model."""
    return sum(p.numel() for p in model.parameters())


def _forward(model: Any, image: Tensor) -> None:
    if hasattr(model, 'pre_transformer'):
        raise BadInput(
            f'the multiply-adds of {type(model).__name__} cannot be counted: '
            'its transformer runs on real, annotated images only'
        )
    if not hasattr(model, 'roi_head'):
        model(image, mode='tensor')
        return
    model.rpn_head(model.extract_feat(image))
    roi = model.roi_head
    parts = [(roi.bbox_roi_extractor, roi.bbox_head)]
    counts = [model.test_cfg.rpn.max_per_img, _MASKS]
    if roi.with_mask:
        parts.append((roi.mask_roi_extractor, roi.mask_head))
    for (extractors, heads), count in zip(parts, counts, strict=False):
        if not isinstance(heads, nn.ModuleList):
            # A cascade has lists of them.
            extractors, heads = [extractors], [heads]
        for extractor, head in zip(extractors, heads, strict=True):
            # Skip RoIAlign: it has no meta kernel, and no matrix products.
            pooled = extractor.roi_layers[0].output_size
            head(image.new_empty(count, extractor.out_channels, *pooled))


def multiply_adds(
    model: nn.Module,
    shape: Sequence[int],
    forward: Callable[[Any, Tensor], object] = _forward,
) -> int:
    """Multiply-adds of one image's forward in testing.

    PyTorch's counter counts convolutions and matrix products on the meta
    device, without computing them. A two-stage detector gets as many
    proposals as its ``test_cfg`` allows, and masks for the first 100. Heads
    that only train do not count. The model does not change.

    Args:
        model: A model of the three libraries, or any other with ``forward``.
        shape: Shape of an image, ``(C, H, W)``.
        forward: A function that runs the model on images.
    """
    shapes_only = copy.deepcopy(model).to('meta').train(False)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        forward(shapes_only, torch.empty(1, *shape, device='meta'))
    return counter.get_total_flops() // 2
