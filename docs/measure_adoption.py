"""Measure adoption: plain network, hook and naive start, at equal budget.

A plain ResNet-18 of half the width is trained for each seed; then it is
fine-tuned three times for the same few epochs: as it is, as KernelDNA with
KernelFadeHook, and as KernelDNA from the plain fit alone (no residual, no
alignment, no teacher). On the digit crops of `configs/digits/adopted_r18.py`,
or with --cifar on a part of CIFAR-10. It prints the tables of docs/adopt.md.

Example: python docs/measure_adoption.py --seeds 0 1 2
"""

import argparse
import json
import os.path as osp
import statistics
from pathlib import Path

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.runner import Runner
from rich import box
from rich.console import Console
from rich.table import Table
from torch.utils.data import Dataset

import mmkdna
from mmkdna.adoption import residual_names
from mmkdna.checkpoint import read_weights
from mmkdna.datasets import prepare_data

ROOT = Path(__file__).parent.parent
NAIVE = 'KernelDNA, naive start'
WAYS = ('plain', 'KernelDNA, KernelFadeHook', NAIVE)


@DATASETS.register_module()
class JpegArrays(Dataset):
    """Images of an .npz with JPEG bytes, their offsets and labels."""

    metainfo = dict(classes=tuple('0123456789'))

    def __init__(self, path, count, pipeline):
        from mmpretrain.registry import TRANSFORMS

        data = np.load(path)
        starts, jpeg = data['offsets'], data['jpeg']
        # They may come in the order of their classes.
        chosen = np.random.default_rng(0).permutation(len(data['labels']))
        chosen = chosen[:count]
        self.images = [
            cv2.imdecode(jpeg[starts[i] : starts[i + 1]], cv2.IMREAD_COLOR)
            for i in chosen
        ]
        self.labels = data['labels'][chosen].tolist()
        self.pipeline = [TRANSFORMS.build(step) for step in pipeline]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        image = self.images[i]
        sample = dict(
            img=image,
            img_shape=image.shape[:2],
            ori_shape=image.shape[:2],
            gt_label=self.labels[i],
        )
        for step in self.pipeline:
            sample = step(sample)
        return sample


def on_cifar(cfg: Config, folder: str, images: int) -> None:
    """Train on some images of CIFAR-10, test on 2,000 others."""
    for loader, split, count in (
        (cfg.train_dataloader, 'train', images),
        (cfg.val_dataloader, 'test', 2_000),
        (cfg.test_dataloader, 'test', 2_000),
    ):
        augment = [
            dict(type='RandomCrop', crop_size=32, padding=4),
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
        ]
        loader.batch_size = 64
        loader.dataset = dict(
            type='JpegArrays',
            path=osp.join(folder, f'cifar10_{split}.npz'),
            count=count,
            pipeline=[
                *(augment if split == 'train' else []),
                dict(type='PackInputs'),
            ],
        )
    cfg.model.backbone.type = 'ResNet_CIFAR'
    cfg.model.backbone.deep_stem = False


def budget(cfg: Config, epochs: int) -> None:
    cfg.train_cfg.max_epochs = epochs
    cfg.train_cfg.val_interval = epochs
    cfg.param_scheduler[1].update(T_max=epochs, end=epochs)


def accuracy(work_dir: Path) -> float | None:
    """Of the last validation of a finished run, in percent."""
    done = work_dir / 'accuracy.json'
    return json.loads(done.read_text())['top1'] if done.exists() else None


def run(cfg: Config, work_dir: Path, seed: int) -> float:
    if (before := accuracy(work_dir)) is not None:
        return before
    cfg.work_dir = str(work_dir)
    cfg.randomness = dict(seed=seed)
    runner = Runner.from_cfg(cfg)
    runner.train()
    if mmkdna.list_families(runner.model):
        assert not residual_names(runner.model)
    top1 = float(runner.message_hub.get_scalar('val/accuracy/top1').current())
    (work_dir / 'accuracy.json').write_text(json.dumps(dict(top1=top1)))
    return top1


def fit_errors(path: str, align: bool) -> list[float]:
    """Of each child that a plain checkpoint is loaded into."""
    cfg = Config.fromfile(ROOT / 'configs/digits/adopted_r18.py')
    backbone = dict(cfg.model.backbone, deep_stem=False)
    backbone['conv_cfg'] = dict(backbone['conv_cfg'], align=align)
    init_default_scope('mmpretrain')
    model = MODELS.build(backbone)
    weights = {
        key.removeprefix('backbone.'): value
        for key, value in read_weights(path).items()
        # The stems of the two data sets differ, the families do not.
        if key.startswith('backbone.layer')
    }
    model.load_state_dict(weights, strict=False)
    rows = mmkdna.report(model).rows
    return [row.fit_error for row in rows if row.fit_error is not None]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--cifar', help='folder of the two .npz files')
    parser.add_argument(
        '--images', type=int, default=5000, help='of CIFAR-10, to train on'
    )
    parser.add_argument('--plain-epochs', type=int, default=30)
    parser.add_argument('--epochs', type=int, default=5)
    parser.add_argument('--work-dir', default='work_dirs/adoption')
    args = parser.parse_args()
    work_dir = Path(args.work_dir, 'cifar' if args.cifar else 'digits')
    found: dict[str, list[float]] = {way: [] for way in ('start', *WAYS)}
    for seed in args.seeds:
        cfgs = {}
        for way in ('start', *WAYS):
            name = 'plain/r18' if way == 'start' else 'adopted_r18'
            cfg = Config.fromfile(ROOT / f'configs/digits/{name}.py')
            if args.cifar:
                on_cifar(cfg, args.cifar, args.images)
            else:
                prepare_data(cfg, ['train_dataloader', 'val_dataloader'])
            epochs = args.plain_epochs if way == 'start' else args.epochs
            budget(cfg, epochs)
            start = (
                work_dir / f'start_{seed}' / f'epoch_{args.plain_epochs}.pth'
            )
            if way != 'start':
                cfg.load_from = str(start)
            if way == 'plain':
                del cfg.model.backbone['conv_cfg']
            if way == NAIVE:
                cfg.model.backbone.conv_cfg.align = False
            if way in ('plain', NAIVE):
                cfg.custom_hooks = []
            cfgs[way] = cfg
        for way, cfg in cfgs.items():
            name = {'start': 'start', 'plain': 'plain', NAIVE: 'naive'}.get(
                way, 'hook'
            )
            # Another order of the images than the start's.
            offset = 0 if way == 'start' else 1000
            found[way].append(
                run(cfg, work_dir / f'{name}_{seed}', seed + offset)
            )
    table = Table(box=box.SIMPLE)
    for title in ('', *(f'seed {seed}' for seed in args.seeds)):
        table.add_column(title)
    table.add_column('mean')
    table.add_column('standard deviation')
    for way, values in found.items():
        table.add_row(
            'the plain network at the start' if way == 'start' else way,
            *(f'{value:.2f}' for value in values),
            f'{statistics.mean(values):.2f}',
            f'{statistics.stdev(values):.2f}' if len(values) > 1 else '',
        )
    console = Console()
    console.print(table)
    for align in (False, True):
        errors = [
            error
            for seed in args.seeds
            for error in fit_errors(
                str(
                    work_dir
                    / f'start_{seed}'
                    / f'epoch_{args.plain_epochs}.pth'
                ),
                align,
            )
        ]
        console.print(
            f'relative error of the fit {"with" if align else "without"} '
            f'alignment: {statistics.mean(errors):.4f} '
            f'({min(errors):.4f} to {max(errors):.4f}, '
            f'{len(errors)} children)'
        )


if __name__ == '__main__':
    main()
