"""Parameters, multiply-adds, and the input that these are counted at."""

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..errors import BadInput
from .configs import library

_MASKS = 100


def parameters(model: nn.Module) -> int:
    """How many numbers the parameters of a model hold."""
    return sum(p.numel() for p in model.parameters())


def input_size(cfg: Config) -> tuple[int, int]:
    """Height and width of the input, in pixels, as the config tests.

    A detector's is the landscape frame of its Resize, padded; a segmentor's
    the crop of its preprocessor; a classifier's its crop.

    Raises:
        BadInput: If the config does not say it.
    """
    scope = library(cfg)
    size = None
    if scope == 'mmseg':
        size = cfg.model.get('data_preprocessor', {}).get('size')
    else:
        dataset = (cfg.get('test_dataloader') or {}).get('dataset', {})
        while 'pipeline' not in dataset and 'dataset' in dataset:
            dataset = dataset['dataset']
        for step in dataset.get('pipeline', []):
            if step.get('type') in ('Resize', 'CenterCrop'):
                size = step.get('scale') or step.get('crop_size')
    if size is None:
        raise BadInput(
            f'{cfg.filename} does not say the size of the input, expected a '
            'Resize or crop in its test pipeline; say it with --size '
            'HEIGHTxWIDTH'
        )
    size = (size, size) if isinstance(size, int) else tuple(size)
    if scope == 'mmdet':
        divisor = cfg.model.data_preprocessor.get('pad_size_divisor', 1)
        short, long = sorted(math.ceil(s / divisor) * divisor for s in size)
        return short, long
    return size


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
    # RoIAlign, which has no meta kernel, multiplies no matrices.
    for kind, count in (
        ('bbox', model.test_cfg.rpn.max_per_img),
        ('mask', _MASKS),
    ):
        if getattr(model.roi_head, f'with_{kind}'):
            extractors, heads = (
                # A cascade has several, in a list.
                part if isinstance(part, nn.ModuleList) else [part]
                for part in (
                    getattr(model.roi_head, f'{kind}_roi_extractor'),
                    getattr(model.roi_head, f'{kind}_head'),
                )
            )
            for extractor, head in zip(extractors, heads, strict=True):
                pooled = extractor.roi_layers[0].output_size
                head(image.new_empty(count, extractor.out_channels, *pooled))


def multiply_adds(
    model: nn.Module,
    shape: Sequence[int],
    forward: Callable[[Any, Tensor], object] = _forward,
) -> int:
    """Multiply-adds of one image's forward in testing.

    PyTorch's own counter counts convolutions and matrix products, on the meta
    device: nothing is computed. A two-stage detector gets as many proposals
    as its ``test_cfg`` allows, and a mask for the first 100 of them. Heads
    that only training uses are left out. The model is left as it is.

    Args:
        model: Of one of the libraries, or any with a ``forward``.
        shape: Of an image, ``(C, H, W)``.
        forward: Runs the model on images.
    """
    shapes_only = copy.deepcopy(model).to('meta').train(False)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        forward(shapes_only, torch.empty(1, *shape, device='meta'))
    return counter.get_total_flops() // 2
