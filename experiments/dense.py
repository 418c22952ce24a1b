"""Mask R-CNN on nuclei and UperNet on CamVid: what switching costs or gains.

From scratch: plain, narrowed to KernelDNA's parameters, KernelDNA everywhere,
KernelDNA in the neck and the heads only. From the backbone that plain had
trained with seed 0: plain, everywhere, neck and heads only. On CamVid also in
the backbone only, on nuclei with another family of the neck, and from scratch
twice as long.

CamVid is also seen by a backbone that has seen ImageNet, plain and with shared
pointwise layers. The digits' trained Mask R-CNN goes on: plain, with the
families of the default rule, with other families of the neck, with those that
tools/plan.py chose. And it is trained from scratch. A table and a picture have
the scores against parameters.

    python experiments/dense.py nuclei --data DIR
    python experiments/dense.py nuclei_long --data DIR
    python experiments/dense.py camvid --data DIR
    python experiments/dense.py imagenet --data DIR
    python experiments/dense.py digits --data data
    python experiments/dense.py digits_scratch --data data

It resumes: a run whose result is there is not run again, and one that was
interrupted goes on from its last checkpoint.
"""

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import networks
import numpy as np
import results
from mmengine.config import Config
from mmengine.runner import Runner, find_latest_checkpoint

from mmkdna.checkpoint import write_weights
from mmkdna.cli import exit_on_bad_input, load_config, quiet
from mmkdna.datasets import prepare_data
from mmkdna.files import made_beside
from mmkdna.measure.complexity import multiply_adds, parameters
from mmkdna.measure.configs import build_model
from mmkdna.measure.runs import last_scores

OUT = Path(__file__).with_suffix('')
CONFIGS = Path(__file__).parent / 'configs'
VOID, IGNORED = 11, 255
SIZE = (3, 192, 192)


def nuclei_narrow(width: int) -> dict[str, Any]:
    """Mask R-CNN of another width; plain has 24."""
    neck = round(width * 64 / 24)
    roi = {
        'bbox_roi_extractor.out_channels': neck,
        'bbox_head.in_channels': neck,
        'bbox_head.fc_out_channels': 2 * neck,
        'mask_roi_extractor.out_channels': neck,
        'mask_head.in_channels': neck,
        'mask_head.conv_out_channels': neck,
    }
    return {
        'model.backbone.base_channels': width,
        'model.neck.in_channels': [width << i for i in range(4)],
        'model.neck.out_channels': neck,
        'model.rpn_head.in_channels': neck,
        'model.rpn_head.feat_channels': neck,
        **{f'model.roi_head.{key}': value for key, value in roi.items()},
    }


def camvid_narrow(width: int) -> dict[str, Any]:
    """UperNet of another width; plain has 32."""
    return {
        'model.backbone.stem_channels': width,
        'model.backbone.base_channels': width,
        'model.decode_head.in_channels': [width << i for i in range(4)],
        'model.decode_head.channels': 2 * width,
        'model.auxiliary_head.in_channels': width << 3,
        'model.auxiliary_head.channels': 2 * width,
    }


WHERE = {
    'plain': 'plain',
    'narrowed': 'plain, narrowed',
    'everywhere': 'KernelDNA everywhere',
    'heads': 'KernelDNA in neck and heads',
}
PRETRAINED = {
    'pretrained_plain': 'pretrained: plain',
    'pretrained_everywhere': 'pretrained: KernelDNA everywhere',
    'pretrained_heads': 'pretrained: KernelDNA in neck and heads',
}
CAMVID = WHERE | {'backbone': 'KernelDNA in the backbone'}
NUCLEI = WHERE | {'coarse_first': 'KernelDNA everywhere, neck: 2, 3 <- 1'}
SCRATCH = {
    'plain': 'plain',
    'everywhere': 'KernelDNA by the rule',
    'first': 'KernelDNA by the rule, neck: 1 <- 0, 3 <- 2',
    'coarse_first': 'KernelDNA by the rule, neck: 2, 3 <- 1',
}
ADOPTED = SCRATCH | {
    'plain': 'plain, fine-tuned as long',
    'coarse': 'KernelDNA by the rule, neck: 1, 2 <- 3',
    'finest': 'KernelDNA by the rule, neck: 3 <- 1',
    'planned': 'KernelDNA by the plan',
}
IMAGENET = {
    'plain': 'plain',
    'everywhere': 'KernelDNA in pointwise layers',
}
PLAN = [
    [
        'backbone.layer4.0.conv2',
        'backbone.layer4.1.conv2',
        'backbone.layer4.1.conv1',
    ],
    ['neck.fpn_convs.3.conv', 'neck.fpn_convs.1.conv'],
]
"""What tools/plan.py printed (docs/pretrained.md), the parent last."""
NECKS = {
    'first': dict(parent='first'),
    'coarse': dict(family_size=[3]),
    'coarse_first': dict(family_size=[3], parent='first'),
    'finest': dict(families=[['fpn_convs.3.conv', 'fpn_convs.1.conv']]),
}
"""Other families of a neck than by the rule."""


def shared(place: str, least: int) -> dict[str, Any]:
    """The option that switches a part of a model to KernelDNA."""
    conv_cfg = dict(type='KernelDNA', min_channels=least)
    return {f'model.{place}.conv_cfg': conv_cfg}


class Task(NamedTuple):
    """A network, its data, and where KernelDNA goes.

    Args:
        data: What its images are.
        backbone: The options of a config that switch the backbone.
        heads: Those that switch neck and heads.
        ways: Titles of what is trained, by name.
        width: Of the config.
        narrow: The options that make plain another width.
        steps: Of a training; 0: the config's.
    """

    title: str
    config: str
    data: str
    scores: tuple[str, ...]
    backbone: dict[str, Any]
    heads: dict[str, Any]
    ways: dict[str, str]
    width: int = 0
    narrow: Callable[[int], dict[str, Any]] | None = None
    steps: int = 0


_NUCLEI = Task(
    'Mask R-CNN on nuclei',
    'nuclei_maskrcnn_r18.py',
    'nuclei',
    ('box AP', 'mask AP'),
    shared('backbone', 96),
    shared('neck', 64) | shared('roi_head.mask_head', 64),
    NUCLEI | PRETRAINED,
    24,
    nuclei_narrow,
)
TASKS = {
    'nuclei': _NUCLEI,
    'nuclei_long': _NUCLEI._replace(
        title='Mask R-CNN on nuclei, twice as long',
        ways=NUCLEI,
        steps=4000,
    ),
    'camvid': Task(
        'UperNet on CamVid',
        'camvid_upernet_r18.py',
        'camvid',
        ('mIoU',),
        shared('backbone', 64),
        shared('decode_head', 64),
        CAMVID | PRETRAINED,
        32,
        camvid_narrow,
    ),
    'imagenet': Task(
        'CamVid, backbone of ImageNet',
        'camvid_upernet_lite0.py',
        'camvid',
        ('mIoU',),
        {
            'model.backbone.kernel_dna': dict(
                kernel_sizes=(1,), min_channels=64
            )
        },
        {},
        IMAGENET,
    ),
    'digits': Task(
        'trained Mask R-CNN on digits',
        'digits_maskrcnn_r18.py',
        'digits',
        ('box AP', 'mask AP'),
        shared('backbone', 96),
        shared('neck', 64),
        ADOPTED,
    ),
    'digits_scratch': Task(
        'Mask R-CNN on digits from scratch',
        'digits_maskrcnn_r18_scratch.py',
        'digits',
        ('box AP', 'mask AP'),
        shared('backbone', 96),
        shared('neck', 64),
        SCRATCH,
    ),
}


def options(task: Task, way: str, folder: Path) -> dict[str, Any]:
    """What a way changes in the config.

    Args:
        folder: Where plain's weights are.
    """
    where = way.removeprefix('pretrained_')
    changed: dict[str, Any] = {}
    if where in ('everywhere', 'heads'):
        changed |= task.heads
    if where in ('everywhere', 'backbone'):
        changed |= task.backbone
    if where in NECKS:
        neck = task.heads['model.neck.conv_cfg'] | NECKS[where]
        changed |= task.backbone | task.heads | {'model.neck.conv_cfg': neck}
    if way == 'planned':
        changed['model.kernel_dna'] = dict(
            families=PLAN, min_channels=64, kernel_sizes=None
        )
    if way == 'narrowed':
        narrow = task.narrow
        assert narrow is not None
        ours = options(task, 'everywhere', folder)
        width = networks.nearest_degree(
            lambda width: _parameters(task, narrow(width)),
            range(task.width // 2, task.width + 1),
            _parameters(task, ours),
        )
        changed |= narrow(width)
    if way.startswith('pretrained_'):
        changed['model.backbone.init_cfg'] = dict(
            _delete_=True,
            type='Pretrained',
            checkpoint=str(folder / 'plain-0.safetensors'),
            prefix='backbone.',
        )
    return changed


def _config(task: Task, changed: dict[str, Any]) -> Config:
    return load_config(str(CONFIGS / task.config), changed)


def _parameters(task: Task, changed: dict[str, Any]) -> int:
    return parameters(build_model(_config(task, changed)))


def unpack(data: Path, root: Path) -> None:
    """Write the scenes of CamVid as files, for BaseSegDataset; once."""
    if root.exists():
        return
    with made_beside(root) as folder:
        for split in ('train', 'test'):
            images = Path(folder, 'images', split)
            labels = Path(folder, 'labels', split)
            images.mkdir(parents=True)
            labels.mkdir(parents=True)
            arrays = np.load(data / f'camvid_{split}.npz')
            starts, jpeg = arrays['offsets'], arrays['jpeg']
            for i, classes in enumerate(arrays['labels']):
                image = jpeg[starts[i] : starts[i + 1]]
                pixels = cv2.imdecode(image, cv2.IMREAD_COLOR)
                seen = np.where(classes == VOID, IGNORED, classes)
                cv2.imwrite(str(images / f'{i:04}.png'), pixels)
                cv2.imwrite(str(labels / f'{i:04}.png'), seen.astype(np.uint8))


def place(cfg: Config, name: str, data: Path, out: Path) -> None:
    """Tell a config where its images are; unpack them first."""
    root = data / name
    if name == 'camvid':
        root = out / 'data'
        unpack(data, root)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.data_root = f'{root}/'
    cfg.test_dataloader = cfg.val_dataloader
    if name != 'camvid':
        file = Path(cfg.val_dataloader.dataset.ann_file)
        cfg.val_evaluator.ann_file = str(root / file)
        cfg.test_evaluator = cfg.val_evaluator
    if name == 'digits':
        cfg.digit_scenes.root = str(root)
        prepare_data(cfg, ['train_dataloader', 'val_dataloader'])


def set_length(cfg: Config, steps: int) -> None:
    """Train so many steps: a warm-up, then a cosine; scores at the end."""
    cfg.train_cfg = dict(
        type='IterBasedTrainLoop', max_iters=steps, val_interval=steps
    )
    whole = dict(by_epoch=False, begin=0)
    cfg.param_scheduler = [
        dict(whole, type='LinearLR', start_factor=0.01, end=cfg.warm_up),
        dict(whole, type='CosineAnnealingLR', T_max=steps, end=steps),
    ]


def train(
    way: str,
    seed: int,
    name: str,
    steps: int,
    data: Path,
    there: results.Results,
) -> dict[str, Any]:
    """One run: its scores, and what it cost."""
    task = TASKS[name]
    if way.startswith('pretrained_'):
        there.need('plain', 0)
    cfg = _config(task, options(task, way, there.folder))
    place(cfg, task.data, data, there.folder)
    set_length(cfg, steps)
    cfg.randomness = dict(seed=seed)
    cfg.work_dir = str(there.folder / 'runs' / f'{way}-{seed}')
    # A visualizer of the same name would be the last run's, and write there.
    cfg.visualizer.name = cfg.work_dir
    latest = find_latest_checkpoint(cfg.work_dir)
    cfg.resume = latest is not None
    done = int(latest.split('_')[-1].split('.')[0]) if latest else 0
    begin = time.process_time()
    runner = Runner.from_cfg(cfg)
    runner.train()
    seconds = time.process_time() - begin
    scores = last_scores(Path(cfg.work_dir))
    if way == 'plain' and seed == 0:
        path = there.folder / 'plain-0.safetensors'
        write_weights(runner.model.state_dict(), str(path), {})
    shutil.rmtree(cfg.work_dir)
    return dict(
        **{key: round(scores[key], 2) for key in task.scores},
        parameters=parameters(runner.model),
        multiply_adds=multiply_adds(runner.model, SIZE),
        # Of all steps, as these were.
        seconds=round(seconds / (1 - done / runner.max_iters), 1),
        steps=runner.max_iters,
    )


def main(argv: Sequence[str] | None = None) -> None:
    ways = dict.fromkeys(w for task in TASKS.values() for w in task.ways)
    parser = results.parser(__doc__, ways, OUT)
    parser.add_argument('task', choices=TASKS)
    parser.add_argument('--steps', type=int, help="the task's by default")
    args = parser.parse_args(argv)
    task = TASKS[args.task]
    for way in args.only or ():
        if way not in task.ways:
            parser.error(
                f'--only {way}: {args.task} has {", ".join(task.ways)}'
            )
    results.set_up(args)
    quiet()
    steps = args.steps or task.steps or _config(task, {}).steps
    there = results.Results(
        args.out / args.task, {'task': args.task, 'steps': steps}
    )
    cells = [(way, seed) for seed in args.seeds for way in task.ways]
    results.carry_out(
        args,
        there,
        cells,
        lambda way, seed: train(
            way, seed, args.task, steps, args.data.resolve(), there
        ),
        task.ways,
        scores=task.scores,
    )


if __name__ == '__main__':
    exit_on_bad_input(main)
