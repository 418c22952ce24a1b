"""Pictures: what a model finds in images, and how a run learned."""

import json
import os
import os.path as osp
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device

from ..errors import BadInput
from .runs import in_percent, read_log
from .show import save
from .twin import library


def check_images(paths: Sequence[str]) -> None:
    """Refuse what is no image, and two that would get one name."""
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
            f'{count} images are named {name}, expected a name of its own '
            'for each picture in the output folder; draw them one by one'
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

    The pictures have the names of the images; of detections, those are drawn
    that score more than the threshold.
    """
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
        # Its own __call__ would write label maps, too, wherever it draws.
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
    from mmdet.registry import DATASETS

    model = init_detector(cfg, checkpoint, device=get_device())
    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    classes = model.dataset_meta['classes']
    count = min(count, len(dataset))
    rows = -(-count // 2)
    figure = Figure(figsize=(8, 2.15 * rows), dpi=150)
    grid = figure.subplots(rows, 4, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for i in range(count):
        with torch.no_grad():
            (sample,) = model.test_step(pseudo_collate([dataset[i]]))
        found = sample.pred_instances
        found = found[found.scores > threshold]
        pair = (
            ('ground truth', sample.gt_instances),
            (f'prediction (score > {threshold})', found),
        )
        for j, (title, instances) in enumerate(pair):
            axes = grid[2 * i + j]
            axes.set_title(title, fontsize=7, pad=2)
            axes.imshow(matplotlib.image.imread(sample.img_path))
            _draw_instances(axes, instances.cpu().numpy(), classes)
    figure.tight_layout(pad=0.4)
    save(figure, path)


def _draw_instances(axes: Any, instances: Any, classes: Sequence[str]) -> None:
    """Boxes ``(x1, y1, x2, y2)``, masks and labels over a shown image."""
    masks = getattr(instances, 'masks', None)
    for i, label in enumerate(instances.labels):
        colour = matplotlib.colormaps['tab10'](int(label) % 10)
        if masks is not None:
            mask = getattr(masks, 'masks', masks)[i].astype(bool)
            axes.imshow(mask[..., None] * [*colour[:3], 0.55])
        box = instances.bboxes[i : i + 1]
        ((x1, y1, x2, y2),) = getattr(box, 'tensor', box).tolist()
        frame = Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False)
        frame.set(edgecolor=colour, linewidth=1.2)
        axes.add_patch(frame)
        text = classes[label]
        if 'scores' in instances:
            text += f' {instances.scores[i]:.2f}'
        # Above the box, or inside where the picture ends.
        y, side = (y1 - 1, 'bottom') if y1 > 10 else (y1 + 1, 'top')
        style = dict(fontsize=6, color='white', va=side)
        back = dict(facecolor=colour, edgecolor='none', pad=0.6)
        axes.text(x1, y, text, bbox=back, **style)


def draw_curves(work_dir: Path, path: Path) -> dict[int, dict[str, float]]:
    """Draw a run's loss over iterations and its scores over epochs.

    Returns:
        The scores of each epoch, in percent, by their titles.
    """
    losses: dict[int, float] = {}
    scores: dict[int, dict[str, float]] = {}
    # What a later run logged takes the place of the same step of an earlier.
    for line in map(json.loads, read_log(work_dir)):
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
