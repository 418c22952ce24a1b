"""Batches of noise with random ground truth, for any of the libraries."""

import numpy as np
import torch
from mmengine.config import Config
from mmengine.structures import PixelData

from .configs import library


def synthetic_batch(
    cfg: Config, batch_size: int, size: tuple[int, int]
) -> dict:
    """A batch like one of the config's dataloader, made of noise.

    Args:
        cfg: The config; its library decides the kind of ground truth.
        batch_size: Number of images.
        size: Height and width of an image, in pixels.

    Returns:
        ``inputs``, a list of ``(3, H, W)`` of uint8, and ``data_samples``.
    """
    scope = library(cfg)
    if scope == 'mmdet':
        from mmdet.testing import demo_mm_inputs

        # Three boxes of two classes, with masks.
        options = dict(num_classes=2, with_mask=True, use_box_type=True)
        boxes = [3] * batch_size
        return demo_mm_inputs(batch_size, (3, *size), boxes, **options)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (batch_size, 3, *size), np.uint8)
    samples = []
    for _ in range(batch_size):
        if scope == 'mmseg':
            from mmseg.structures import SegDataSample

            labels = torch.from_numpy(rng.integers(0, 2, (1, *size)))
            samples.append(SegDataSample(gt_sem_seg=PixelData(data=labels)))
        else:
            from mmpretrain.structures import DataSample

            label = int(rng.integers(0, 2))
            samples.append(DataSample().set_gt_label(label))
    return dict(inputs=list(torch.from_numpy(pixels)), data_samples=samples)
