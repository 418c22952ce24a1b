"""What a batch's padding does to the outputs and to the box AP.

The routing pools the padding of a batch, too, so an image's output moves when
the image is padded. For the digits' detectors, KernelDNA and plain, this
prints one table:

    output  how far backbone and neck move when both sides of a scene grow by
            padding to 1.5, 2 and 3 times. In %, relative to the output of the
            scene alone; mean over the levels of the neck and 20 scenes.
    box AP  with test batches of 1 and 8. "160": all scenes have 160 pixels.
            "160/240": every other eight scenes are resized to 240. There a
            batch of 8 holds one size ("alike"), or four scenes of each
            ("mixed"), and then the small ones are padded to 256.

A plain network moves, too: the zero padding of its convolutions at the border
of an image is not what they see in the image's padding. That fades with the
distance. So the output is compared in the upper left 96 x 96 pixels of a
scene's 160 x 160, which are 64 pixels or more away from what is padded.

    python experiments/padding.py
"""

import warnings
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.datasets.transforms import Resize
from mmengine.config import Config
from mmengine.registry import DATA_SAMPLERS, TRANSFORMS
from mmengine.runner import Runner
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor
from torch.utils.data import Sampler

from mmkdna.cli import build_runner
from mmkdna.datasets import prepare_data

DETECTORS = {'retinanet_r18': 'RetinaNet', 'maskrcnn_r18': 'Mask R-CNN'}
KINDS = {'KernelDNA': ('', 'kdna_'), 'plain': ('plain/', '')}
TIMES = (1.5, 2, 3)
SIZES, INSIDE, SCENES, BATCH = (160, 240), 96, 20, 8
TESTS = {
    '160, batch 1': (1, 'Resize', 'DefaultSampler'),
    '160, batch 8': (BATCH, 'Resize', 'DefaultSampler'),
    '160/240, batch 1': (1, 'ResizeToTwo', 'DefaultSampler'),
    '160/240, batch 8 alike': (BATCH, 'ResizeToTwo', 'DefaultSampler'),
    '160/240, batch 8 mixed': (BATCH, 'ResizeToTwo', 'Mixed'),
}
"""Columns of AP: the size of a batch, how to resize, the order of scenes."""


@TRANSFORMS.register_module()
class ResizeToTwo(Resize):
    """Scenes 0 to 7, 16 to 23, ... to one size, the others to the other."""

    def transform(self, results: dict) -> Any:
        size = SIZES[results['img_id'] // BATCH % 2]
        self.scale = (size, size)
        return super().transform(results)


@DATA_SAMPLERS.register_module()
class Mixed(Sampler):
    """Scenes 0, 8, 1, 9, ...: four of either size in a batch of 8."""

    def __init__(self, dataset: Any, **kwargs: Any):
        self.order = sorted(
            range(len(dataset)), key=lambda i: (i // (2 * BATCH), i % BATCH)
        )

    def __iter__(self) -> Iterator[int]:
        return iter(self.order)

    def __len__(self) -> int:
        return len(self.order)


def runner(detector: str, kind: str, test: str, work_dir: str) -> Runner:
    """Of a test of a trained detector."""
    folder, prefix = KINDS[kind]
    batch, resize, sampler = TESTS[test]
    cfg = Config.fromfile(f'configs/digits/{folder}{prefix}{detector}.py')
    cfg.load_from = f'mmkdna://{prefix}{detector}_digits'
    cfg.work_dir = work_dir
    cfg.log_level = 'ERROR'
    cfg.test_evaluator.metric = 'bbox'
    cfg.test_dataloader.update(
        batch_size=batch, sampler=dict(type=sampler, shuffle=False)
    )
    cfg.test_dataloader.dataset.pipeline[1].type = resize
    prepare_data(cfg, ['test_dataloader'])
    return build_runner(cfg)


def relative(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


def movement(runner: Runner) -> dict[float, float]:
    """How far the maps of scenes move, by how much larger padding is."""
    runner.load_or_resume()
    model = runner.model.eval()
    moved: dict[float, list[float]] = {times: [] for times in TIMES}
    for _, data in zip(range(SCENES), runner.test_dataloader, strict=False):
        x = model.data_preprocessor(data)['inputs']
        size = x.shape[-1]
        alone = model.extract_feat(x)
        for times in TIMES:
            more = int(size * (times - 1))
            # It pads with 0, behind the normalisation, as mmdet does.
            padded = model.extract_feat(F.pad(x, (0, more, 0, more)))
            for level, other in zip(padded, alone, strict=True):
                cells = slice(other.shape[-1] * INSIDE // size)
                inside = (..., cells, cells)
                moved[times].append(relative(level[inside], other[inside]))
    return {times: mean(values) for times, values in moved.items()}


def row(detector: str, kind: str, folder: str) -> list[str]:
    with redirect_stdout(StringIO()):
        moved = movement(runner(detector, kind, '160, batch 1', folder))
        scores = [
            runner(detector, kind, test, folder).test()['coco/bbox_mAP']
            for test in TESTS
        ]
    return [
        DETECTORS[detector],
        kind,
        *(f'{100 * value:.2f} %' for value in moved.values()),
        *(f'{100 * score:.1f}' for score in scores),
    ]


def main() -> None:
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    warnings.simplefilter('ignore')
    table = Table()
    for name in ('', '', *(f'output, x {t}' for t in TIMES), *TESTS):
        table.add_column(name, justify='right', no_wrap=not name)
    console = Console(stderr=True)
    pairs = [(d, k) for d in DETECTORS for k in KINDS]
    # One folder for all: mmengine's visualizer keeps the first.
    with TemporaryDirectory() as folder:
        for pair in track(pairs, 'padding', console=console):
            table.add_row(*row(*pair, folder))
    Console(width=120).print(table)


if __name__ == '__main__':
    main()
