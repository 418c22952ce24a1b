"""Batches of noise with random ground truth, for any of the libraries."""

from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.structures import InstanceData, PixelData

from .twin import library


def synthetic_batch(
    cfg: Config, batch_size: int, size: tuple[int, int], seed: int = 0
) -> dict:
    """What a dataloader of the config would give, without any data.

    Args:
        cfg: Its library says what the ground truth is.
        batch_size: Number of images.
        size: Height and width of an image, in pixels.
        seed: Seed of images and ground truth.

    Returns:
        ``inputs``, a list of ``(3, H, W)`` of uint8, and ``data_samples``.
    """
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (batch_size, 3, *size), np.uint8)
    kinds: Any = dict(mmdet=_boxes, mmseg=_label_map, mmpretrain=_class)
    sample = kinds[library(cfg)]
    shapes = ('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape')
    meta = dict(dict.fromkeys(shapes, size), scale_factor=(1.0, 1.0))
    return dict(
        inputs=list(torch.from_numpy(pixels)),
        data_samples=[sample(rng, meta, *size) for _ in range(batch_size)],
    )


def _boxes(rng: Any, meta: dict, height: int, width: int) -> object:
    """Three boxes of a third of the image, their masks filled."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.bbox import HorizontalBoxes
    from mmdet.structures.mask import BitmapMasks

    boxes, masks = [], np.zeros((3, height, width), np.uint8)
    for mask in masks:
        top = int(rng.integers(0, height - height // 3))
        left = int(rng.integers(0, width - width // 3))
        bottom, right = top + height // 3, left + width // 3
        mask[top:bottom, left:right] = 1
        boxes.append([left, top, right, bottom])
    sample = DetDataSample(metainfo=meta)
    sample.gt_instances = InstanceData(
        bboxes=HorizontalBoxes(torch.tensor(boxes, dtype=torch.float32)),
        labels=torch.from_numpy(rng.integers(0, 2, 3)),
        masks=BitmapMasks(masks, height, width),
    )
    return sample


def _label_map(rng: Any, meta: dict, height: int, width: int) -> object:
    from mmseg.structures import SegDataSample

    sample = SegDataSample(metainfo=meta)
    labels = torch.from_numpy(rng.integers(0, 2, (1, height, width)))
    sample.gt_sem_seg = PixelData(data=labels)
    return sample


def _class(rng: Any, meta: dict, *_: int) -> object:
    from mmpretrain.structures import DataSample

    return DataSample(metainfo=meta).set_gt_label(int(rng.integers(0, 2)))
