"""Draw a model's predictions, and the curves of a run."""

import os
import os.path as osp
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import mmcv
import torch
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device

from ..errors import BadInput
from ..files import written_beside
from .configs import library
from .runs import in_percent, read_log


def _check_images(paths: Sequence[str]) -> None:
    for path in paths:
        if not osp.isfile(path):
            raise FileNotFoundError(
                f'image {path} does not exist, or is a folder'
            )
        if cv2.imread(path) is None:
            raise BadInput(
                f'{path}: expected an image that OpenCV reads, such as JPEG'
            )
    ((name, count),) = Counter(Path(p).stem for p in paths).most_common(1)
    if count > 1:
        raise BadInput(
            f'{count} images are named {name}, expected different names: '
            'the output folder has one picture a name; draw them one by one'
        )


def draw_found(
    cfg: Config,
    checkpoint: str,
    images: list[str],
    out_dir: str,
    device: str,
    threshold: float,
) -> None:
    """Draw boxes and masks, segments or the top-5 into ``out_dir/vis``.

    The pictures have the names of the images. Only detections that score
    above the threshold are drawn.

    Raises:
        FileNotFoundError: If an image does not exist.
        BadInput: If a file is no image, or two images have one name.
    """
    _check_images(images)
    scope, folder = library(cfg), osp.join(out_dir, 'vis')
    draw: Any
    if scope == 'mmdet':
        from mmdet.apis import DetInferencer

        draw = DetInferencer(cfg, checkpoint, device, show_progress=False)
        options = dict(no_save_pred=True, pred_score_thr=threshold)
        draw(images, out_dir=out_dir, **options)
    elif scope == 'mmseg':
        from mmseg.apis import MMSegInferencer

        draw = MMSegInferencer(cfg, checkpoint, device=device)
        draw.show_progress = False
        # Its own __call__ would also write label maps.
        super(MMSegInferencer, draw).__call__(
            images, img_out_dir=folder, pred_out_dir=''
        )
    else:
        from mmpretrain.apis import ImageClassificationInferencer

        draw = ImageClassificationInferencer(cfg, checkpoint, device)
        samples = draw(images, return_datasamples=True)
        for sample in samples:
            best = sample.pred_score.topk(min(5, len(sample.pred_score)))
            # The visualizer writes a line for each predicted label.
            sample.set_pred_label(best.indices)
        os.makedirs(folder, exist_ok=True)
        draw.visualize(images, samples, show_dir=folder, resize=448)


def draw_scenes(
    cfg: Config, checkpoint: str, path: Path, count: int, threshold: float
) -> None:
    """Draw a detector's first validation images, truth beside prediction."""
    from mmdet.apis import init_detector
    from mmdet.registry import DATASETS, VISUALIZERS

    model = init_detector(cfg, checkpoint, device=get_device())
    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    style = dict(name='scenes', line_width=1, alpha=0.5)
    draw: Any = VISUALIZERS.build(dict(style, type='DetLocalVisualizer'))
    draw.dataset_meta = model.dataset_meta
    count = min(count, len(dataset))
    rows = -(-count // 2)
    figure = Figure(figsize=(8, 2.15 * rows), dpi=150)
    grid = figure.subplots(rows, 2, squeeze=False).ravel()
    title = f'ground truth | prediction (score > {threshold})'
    for i, axes in enumerate(grid):
        axes.set_axis_off()
        if i < count:
            with torch.no_grad():
                (sample,) = model.test_step(pseudo_collate([dataset[i]]))
            image = mmcv.imread(sample.img_path, channel_order='rgb')
            draw.add_datasample('', image, sample, pred_score_thr=threshold)
            axes.imshow(draw.get_image())
            axes.set_title(title, fontsize=7, pad=2)
    figure.tight_layout(pad=0.4)
    save(figure, path)


def draw_curves(work_dir: Path, path: Path) -> dict[int, dict[str, float]]:
    """Draw a run's loss over iterations and its scores over epochs.

    Returns:
        The scores of each epoch, in percent, by their titles.
    """
    losses: dict[int, float] = {}
    scores: dict[int, dict[str, float]] = {}
    # A resumed run logs some steps again: the later log counts.
    for line in read_log(work_dir):
        if 'loss' in line:
            losses[line['step']] = line['loss']
        elif found := in_percent(line):
            scores[line['step']] = found
    figure = Figure(figsize=(9, 3.4), dpi=120, layout='tight')
    left, right = figure.subplots(1, 2)
    left.plot(*zip(*sorted(losses.items()), strict=True))
    left.set(xlabel='iteration', ylabel='training loss', ylim=(0, None))
    for title in next(iter(scores.values())):
        values = [(step, found[title]) for step, found in scores.items()]
        right.plot(*zip(*values, strict=True), marker='o', label=title)
    right.set(xlabel='epoch', ylabel='percent, validation', ylim=(0, 100))
    right.xaxis.get_major_locator().set_params(integer=True)
    right.legend(loc='lower right')
    for axes in (left, right):
        axes.grid(alpha=0.3)
    save(figure, path)
    return scores


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure to a PNG file."""
    with written_beside(path) as beside:
        figure.savefig(beside, format='png')
