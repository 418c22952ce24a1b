"""Multiply-adds of a model's forward, and the input they are counted at."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..errors import BadInput
from .twin import library


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
        for step in _steps(cfg.get('test_dataloader') or {}):
            if step.get('type') in ('Resize', 'CenterCrop'):
                size = step.get('scale') or step.get('crop_size')
    if size is None:
        raise BadInput(
            f'{cfg.filename}: the input size is not to be read from the '
            'config, expected a Resize or crop in its test pipeline; say it '
            'with --size HEIGHT WIDTH'
        )
    size = (size, size) if isinstance(size, int) else tuple(size)
    if scope == 'mmdet':
        divisor = cfg.model.data_preprocessor.get('pad_size_divisor', 1)
        short, long = sorted(math.ceil(s / divisor) * divisor for s in size)
        return short, long
    return size


def _steps(dataloader: dict) -> Iterator[dict]:
    dataset = dataloader.get('dataset', {})
    while 'pipeline' not in dataset and 'dataset' in dataset:
        dataset = dataset['dataset']
    yield from dataset.get('pipeline', [])


def multiply_adds(model: nn.Module, size: tuple[int, int]) -> int:
    """Multiply-adds of one image's forward in testing.

    Counted are convolutions and matrix products, by PyTorch's own counter.
    A two-stage detector gets as many proposals as its ``test_cfg`` allows,
    and a mask for the first 100 of them, whatever its weights say. Heads that
    only training uses are left out.

    Args:
        model: A detector, segmentor or classifier on the CPU.
        size: Height and width of the input, in pixels.
    """
    training = model.training
    nn.Module.train(model, False)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        _forward(model, torch.zeros(1, 3, *size))
    nn.Module.train(model, training)
    return counter.get_total_flops() // 2


def _forward(model: Any, image: Tensor) -> None:
    if not hasattr(model, 'roi_head'):
        model(image, mode='tensor')
        return
    features = model.extract_feat(image)
    model.rpn_head(features)
    height, width = image.shape[2:]
    corner = torch.rand(model.test_cfg.rpn.max_per_img, 2) / 2
    corner *= torch.tensor([width, height])
    proposals = InstanceData(bboxes=torch.cat([corner, 2 * corner + 1], 1))
    model.roi_head.forward(features, [proposals])
