"""Batches of noise with random ground truth, for any of the libraries."""

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
        cfg: Tells the library and the number of classes.
        batch_size: Number of images.
        size: Height and width of an image, in pixels.
        seed: Seed of images and ground truth.

    Returns:
        ``inputs``, a list of ``(3, H, W)`` of uint8, and ``data_samples``.
    """
    rng = np.random.default_rng(seed)
    label = {'mmdet': _boxes, 'mmseg': _label_map, 'mmpretrain': _class}[
        library(cfg)
    ]
    pixels = rng.integers(0, 256, (batch_size, 3, *size), np.uint8)
    return dict(
        inputs=list(torch.from_numpy(pixels)),
        data_samples=[label(rng, size) for _ in range(batch_size)],
    )


def _boxes(rng: np.random.Generator, size: tuple[int, int]) -> object:
    """Three boxes of a third of the image, their masks filled."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.bbox import HorizontalBoxes
    from mmdet.structures.mask import BitmapMasks

    height, width = size
    boxes, masks = [], np.zeros((3, height, width), np.uint8)
    for mask in masks:
        top = int(rng.integers(0, height - height // 3))
        left = int(rng.integers(0, width - width // 3))
        bottom, right = top + height // 3, left + width // 3
        mask[top:bottom, left:right] = 1
        boxes.append([left, top, right, bottom])
    sample = DetDataSample(metainfo=_meta(size))
    sample.gt_instances = InstanceData(
        bboxes=HorizontalBoxes(torch.tensor(boxes, dtype=torch.float32)),
        labels=torch.from_numpy(rng.integers(0, 2, 3)),
        masks=BitmapMasks(masks, height, width),
    )
    return sample


def _label_map(rng: np.random.Generator, size: tuple[int, int]) -> object:
    from mmseg.structures import SegDataSample

    sample = SegDataSample(metainfo=_meta(size))
    labels = torch.from_numpy(rng.integers(0, 2, (1, *size)))
    sample.gt_sem_seg = PixelData(data=labels)
    return sample


def _class(rng: np.random.Generator, size: tuple[int, int]) -> object:
    from mmpretrain.structures import DataSample

    return DataSample(metainfo=_meta(size)).set_gt_label(
        int(rng.integers(0, 2))
    )


def _meta(size: tuple[int, int]) -> dict:
    return dict(
        img_shape=size,
        ori_shape=size,
        pad_shape=size,
        batch_input_shape=size,
        scale_factor=(1.0, 1.0),
    )
