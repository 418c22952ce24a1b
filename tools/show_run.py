"""Draw what a finished detection run learned.

Writes WORK_DIR/predictions.png (ground truth beside prediction) and
WORK_DIR/curves.png (loss and average precision), and prints the scores.

Example: python tools/show_run.py work_dirs/demo
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt
import numpy as np
import torch
from mmdet.apis import inference_detector, init_detector
from mmengine.config import Config
from mmengine.runner import find_latest_checkpoint
from pycocotools.coco import COCO
from rich.console import Console
from rich.table import Table

from mmkdna.cli import exit_on_bad_input
from mmkdna.datasets import prepare_data
from mmkdna.errors import BadInput
from mmkdna.measure import library
from mmkdna.zoo import load_tensors_only

SCORES = {
    'coco/bbox_mAP': 'box AP',
    'coco/bbox_mAP_50': 'box AP50',
    'coco/segm_mAP': 'mask AP',
    'coco/segm_mAP_50': 'mask AP50',
}


def find_run(work_dir: Path) -> tuple[Path, str, list[dict]]:
    """Config, latest checkpoint and logged scalars of a work dir."""
    configs = sorted(work_dir.glob('*.py'), key=lambda p: p.stat().st_mtime)
    logs = sorted(work_dir.glob('*/vis_data/scalars.json'))
    checkpoint = find_latest_checkpoint(str(work_dir)) if configs else None
    if not configs or not logs or checkpoint is None:
        raise FileNotFoundError(
            f'{work_dir} holds no finished run, expected a config, a '
            'checkpoint and */vis_data/scalars.json; train first: python '
            f'tools/train.py CONFIG --work-dir {work_dir}'
        )
    lines = logs[-1].read_text().splitlines()
    return configs[-1], checkpoint, [json.loads(line) for line in lines]


def draw_scene(axes, title, boxes, masks, labels, scores, classes) -> None:
    """Boxes ``(x1, y1, x2, y2)``, masks and labels over a shown image."""
    axes.set_title(title, fontsize=7, pad=2)
    axes.set_axis_off()
    colours = plt.get_cmap('tab10').colors
    for i, (x1, y1, x2, y2) in enumerate(boxes):
        colour = colours[labels[i] % 10]
        overlay = np.zeros((*masks[i].shape, 4))
        overlay[masks[i].astype(bool)] = (*colour, 0.55)
        axes.imshow(overlay)
        axes.add_patch(
            plt.Rectangle(
                (x1, y1), x2 - x1, y2 - y1, fill=False, ec=colour, lw=1.2
            )
        )
        text = classes[labels[i]]
        if scores is not None:
            text += f' {scores[i]:.2f}'
        # Above the box, or inside where the picture ends.
        y, side = (y1 - 1, 'bottom') if y1 > 10 else (y1 + 1, 'top')
        axes.text(
            x1,
            y,
            text,
            fontsize=6,
            color='white',
            va=side,
            bbox=dict(facecolor=colour, edgecolor='none', pad=0.6),
        )


def contact_sheet(
    cfg: Config, checkpoint: str, out: Path, scenes: int, threshold: float
) -> None:
    """Draw validation scenes, ground truth beside prediction."""
    dataset = cfg.val_dataloader.dataset
    root = Path(dataset.data_root)
    coco = COCO(str(root / dataset.ann_file))
    images = coco.loadImgs(coco.getImgIds()[:scenes])
    paths = [
        str(root / dataset.data_prefix.img / i['file_name']) for i in images
    ]
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    load_tensors_only()
    model = init_detector(cfg, checkpoint, device=device)
    classes = model.dataset_meta['classes']
    names = {c['id']: c['name'] for c in coco.loadCats(coco.getCatIds())}

    columns = 4
    rows = -(-len(images) // (columns // 2))
    figure, grid = plt.subplots(
        rows, columns, figsize=(2 * columns, 2.15 * rows), dpi=150
    )
    for axes in grid.flat:
        axes.set_axis_off()
    for i, (image, path) in enumerate(zip(images, paths, strict=True)):
        truth, predicted = grid.flat[2 * i], grid.flat[2 * i + 1]
        for axes in (truth, predicted):
            axes.imshow(plt.imread(path))
        annotations = coco.loadAnns(coco.getAnnIds(image['id']))
        boxes = [
            (x, y, x + w, y + h)
            for x, y, w, h in (a['bbox'] for a in annotations)
        ]
        draw_scene(
            truth,
            'ground truth',
            boxes,
            [coco.annToMask(a) for a in annotations],
            [classes.index(names[a['category_id']]) for a in annotations],
            None,
            classes,
        )
        found = inference_detector(model, path).pred_instances.cpu().numpy()
        found = found[found.scores > threshold]
        draw_scene(
            predicted,
            f'prediction (score > {threshold})',
            found.bboxes,
            found.masks,
            found.labels,
            found.scores,
            classes,
        )
    figure.tight_layout(pad=0.4)
    figure.savefig(out)
    plt.close(figure)


def curves(scalars: Sequence[dict], out: Path) -> None:
    """Loss over iterations; average precision over epochs."""
    train = [s for s in scalars if 'loss' in s]
    val = [s for s in scalars if any(key in s for key in SCORES)]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), dpi=120)
    left.plot([s['step'] for s in train], [s['loss'] for s in train])
    left.set(xlabel='iteration', ylabel='training loss', ylim=(0, None))
    for key, name in SCORES.items():
        points = [(s['step'], s[key]) for s in val if key in s]
        if points:
            right.plot(*zip(*points, strict=True), marker='o', label=name)
    right.set(xlabel='epoch', ylabel='on the validation scenes', ylim=(0, 1))
    right.xaxis.get_major_locator().set_params(integer=True)
    right.legend(loc='lower right')
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(out)
    plt.close(figure)


def score_table(scalars: Sequence[dict]) -> Table:
    table = Table(title='COCO metrics on the validation scenes')
    table.add_column('epoch', justify='right')
    for name in SCORES.values():
        table.add_column(name, justify='right')
    for line in scalars:
        if any(key in line for key in SCORES):
            table.add_row(
                str(line['step']),
                *(f'{line[k]:.3f}' if k in line else '' for k in SCORES),
            )
    return table


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('work_dir', type=Path, help='of tools/train.py')
    parser.add_argument(
        '--scenes', type=int, default=12, help='how many to draw (12)'
    )
    parser.add_argument(
        '--threshold',
        type=float,
        default=0.5,
        help='draw predictions that score more than this (0.5)',
    )
    args = parser.parse_args(argv)
    config, checkpoint, scalars = find_run(args.work_dir)
    cfg = Config.fromfile(config)
    if library(cfg) != 'mmdet':
        raise BadInput(
            f'{config} is a config of {library(cfg)}, expected one of mmdet: '
            'this draws boxes and masks; use tools/infer.py'
        )
    prepare_data(cfg, ['val_dataloader'])
    sheet, plot = (
        args.work_dir / name for name in ('predictions.png', 'curves.png')
    )
    contact_sheet(cfg, checkpoint, sheet, args.scenes, args.threshold)
    curves(scalars, plot)
    console = Console(soft_wrap=True)
    console.print(score_table(scalars))
    console.print(
        f'Everything is in {args.work_dir}: {sheet.name}, {plot.name}, '
        f'{Path(checkpoint).name}. Next: python tools/report.py '
        'configs/kdna_maskrcnn_r50.py shows which convs share a kernel.',
        highlight=False,
    )


if __name__ == '__main__':
    exit_on_bad_input(main)
