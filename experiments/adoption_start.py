"""How a plain network had better start as KernelDNA: at once, or by a fade?

For two trained plain networks, a ResNet-20 on CIFAR-10 and the digits' Mask
R-CNN with frozen BatchNorm, it trains every way of starting from the plain
weights, with three seeds each, and prints one table:

    once            the parent's kernel, the adapter at its start
    once+fit        the static modulation fitted to the child's own kernel
    fade            fitted, what is left fades over 0.3 of the run
    ...+teacher     taught the plain network's features until 0.8 of the run

It resumes: a run whose result is on disk is not run again.

    python experiments/adoption_start.py cifar --data DIR --out runs
    python experiments/adoption_start.py digits --out runs
    python experiments/adoption_start.py table --out runs
"""

import argparse
import json
import logging
import math
import statistics
import time
from pathlib import Path

import cv2
import mmkdna.adoption.loading as loading
import numpy as np
import torch
import torch.nn.functional as F
from mmengine.logging import MMLogger
from mmkdna.adoption.fit import Fit
from mmkdna.adoption.teacher import FeatureTeacher
from safetensors.torch import load_file
from torch import Tensor, nn

import mmkdna

WAYS = ('once', 'fade', 'once+teacher', 'fade+teacher', 'once+fit')
SEEDS = (0, 1, 2)
FADE_END, TEACHER_END, TEACHER = 0.3, 0.8, 10.0
fit_modulation = loading.fit_modulation


def no_fit(kernel: Tensor, parent: Tensor) -> Fit:
    size = kernel.shape[2:]
    return Fit(
        kernel.new_zeros(kernel.shape[0], 1, *[1] * len(size)),
        kernel.new_zeros(1, 1, *size) if len(size) else None,
        float((kernel - parent).norm() / kernel.norm()),
    )


def start(way: str) -> None:
    """Have plain weights load as this way says."""
    fitted = 'fit' in way or way.startswith('fade')
    loading.fit_modulation = fit_modulation if fitted else no_fit


def cosine_fade(progress: float) -> float:
    t = min(progress / FADE_END, 1.0)
    return (1 - math.cos(math.pi * t)) / 2 if t < 1 else 1.0


class Block(nn.Module):
    """A basic block; where the width grows, its shortcut pads with zeros."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.pad, self.stride = (outputs - inputs) // 2, stride

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        if self.pad or self.stride > 1:
            x = x[..., :: self.stride, :: self.stride]
            x = F.pad(x, (0, 0, 0, 0, self.pad, self.pad))
        return (x + y).relu()


class ResNet20(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        for i, (inputs, outputs) in enumerate(((16, 16), (16, 32), (32, 64))):
            blocks = [Block(inputs, outputs, 1 if i == 0 else 2)]
            blocks += [Block(outputs, outputs, 1) for _ in range(2)]
            self.add_module(f'layer{i + 1}', nn.Sequential(*blocks))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x)).relu()
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def images(path: Path) -> tuple[Tensor, Tensor]:
    data = np.load(path)
    jpeg, ends = data['jpeg'], data['offsets']
    count = len(data['labels'])
    pixels = np.stack(
        [
            cv2.imdecode(jpeg[ends[i] : ends[i + 1]], cv2.IMREAD_COLOR)
            for i in range(count)
        ]
    )[..., ::-1]
    x = torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2).float() / 255
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    return (x - mean) / std, torch.from_numpy(data['labels'].astype('int64'))


def accuracy(net: nn.Module, x: Tensor, y: Tensor) -> float:
    net.eval()
    with torch.no_grad():
        right = sum(
            int((net(a).argmax(1) == b).sum())
            for a, b in zip(x.split(500), y.split(500), strict=True)
        )
    net.train()
    return 100 * right / len(y)


def cifar(way: str, seed: int, data: Path, epochs: int = 3) -> dict:
    """SGD 0.05 down a cosine, crops and flips; None for plain."""
    torch.manual_seed(seed)
    x, y = images(data / 'cifar10_train.npz')
    test = images(data / 'cifar10_test.npz')
    net = ResNet20()
    net.load_state_dict(load_file(data / 'resnet20_cifar10.safetensors'))
    teacher = None
    if way != 'plain':
        start(way)
        mmkdna.convert(net, min_channels=32, align=False)
        if 'teacher' in way:
            teacher = FeatureTeacher(net)
        if way.startswith('once'):
            mmkdna.set_fade(net, 1)
    first = accuracy(net, *test)
    net.train().to(memory_format=torch.channels_last)
    decay = [p for p in net.parameters() if p.dim() > 1]
    rest = [p for p in net.parameters() if p.dim() <= 1]
    optimizer = torch.optim.SGD(
        [{'params': decay, 'weight_decay': 5e-4}, {'params': rest}],
        lr=0.05,
        momentum=0.9,
        nesterov=True,
    )
    steps = epochs * (len(x) // 128)
    step = 0
    for _ in range(epochs):
        order = torch.randperm(len(x))
        for chosen in order.split(128)[: len(x) // 128]:
            progress = step / (steps - 1)
            if way.startswith('fade'):
                mmkdna.set_fade(net, cosine_fade(progress))
            for group in optimizer.param_groups:
                warm = min((step + 1) / 50, 1.0)
                group['lr'] = (
                    0.05 * warm * (1 + math.cos(math.pi * progress)) / 2
                )
            batch = x[chosen]
            flip = torch.rand(len(batch)) < 0.5
            batch[flip] = batch[flip].flip(3)
            batch = F.pad(batch, (4, 4, 4, 4))
            dy, dx = torch.randint(0, 9, (2,)).tolist()
            batch = batch[..., dy : dy + 32, dx : dx + 32].contiguous(
                memory_format=torch.channels_last
            )
            loss = F.cross_entropy(net(batch), y[chosen])
            if teacher is not None:
                if progress < TEACHER_END:
                    loss = loss + TEACHER * teacher.loss()
                else:
                    teacher.close()
                    teacher = None
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
    return {
        'start': first,
        'end': accuracy(net, *test),
        'parameters': sum(p.numel() for p in net.parameters()),
    }


def digits(way: str, seed: int, folder: Path, epochs: int = 2) -> dict:
    """The digits' Mask R-CNN from its plain twin, BatchNorm frozen."""
    from mmengine.config import Config
    from mmengine.runner import Runner

    from mmkdna.datasets import prepare_data

    cfg = Config.fromfile('configs/digits/kdna_maskrcnn_r18.py')
    for part in ('backbone', 'neck'):
        cfg.model[part].conv_cfg.align = False
    cfg.model.backbone.norm_eval = True
    cfg.load_from = 'mmkdna://maskrcnn_r18_digits'
    cfg.train_cfg.max_epochs = epochs
    cfg.train_cfg.val_interval = epochs
    cfg.param_scheduler[0].end = 50
    cfg.param_scheduler[1].T_max = cfg.param_scheduler[1].end = epochs
    cfg.optim_wrapper.optimizer.lr = 5e-4
    cfg.randomness = dict(seed=seed)
    cfg.work_dir = str(folder)
    cfg.default_hooks.checkpoint.interval = epochs
    cfg.log_level = 'WARNING'
    if way == 'plain':
        for part in ('backbone', 'neck'):
            del cfg.model[part]['conv_cfg']
    else:
        start(way)
        hook = dict(type='KernelFadeHook', end=FADE_END)
        hook['teacher'] = TEACHER if 'teacher' in way else 0
        hook['teacher_end'] = TEACHER_END
        if way.startswith('once'):
            # The teacher is made of the plain network; then all at once.
            hook.update(begin=0.0, end=1e-9)
        # A copy of the hook, so the last thing.
        cfg.custom_hooks = [hook]
    prepare_data(cfg, ['train_dataloader', 'val_dataloader'])
    runner = Runner.from_cfg(cfg)
    runner.train()
    hub = runner.message_hub.log_scalars
    return {
        'end': 100 * hub['val/coco/bbox_mAP'].current(),
        'mask': 100 * hub['val/coco/segm_mAP'].current(),
        'parameters': sum(p.numel() for p in runner.model.parameters()),
    }


def table(out: Path) -> None:
    for task in ('cifar', 'digits'):
        for way in (*WAYS, 'plain'):
            files = sorted(out.glob(f'{task}-{way}-*.json'))
            runs = [json.loads(f.read_text()) for f in files]
            if not runs:
                continue
            for score in ('end', 'mask'):
                if score not in runs[0]:
                    continue
                ends = [run[score] for run in runs]
                spread = statistics.stdev(ends) if len(ends) > 1 else math.nan
                print(
                    f'{task:7} {way:13} {score:5} n={len(ends)} '
                    f'{statistics.mean(ends):6.2f} +- {spread:4.2f}  '
                    f'parameters {runs[0]["parameters"]:,}  '
                    f'start {runs[0].get("start", math.nan):5.1f}  '
                    f'{[round(e, 2) for e in ends]}'
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('task', choices=('cifar', 'digits', 'table'))
    parser.add_argument('--data', type=Path)
    parser.add_argument('--out', type=Path, required=True)
    args = parser.parse_args()
    if args.task == 'table':
        return table(args.out)
    torch.set_num_threads(1)
    MMLogger.get_instance('mmengine', log_level='WARNING')
    logging.getLogger('mmengine').setLevel(logging.WARNING)
    args.out.mkdir(parents=True, exist_ok=True)
    for seed in SEEDS:
        for way in (*WAYS, 'plain'):
            file = args.out / f'{args.task}-{way}-{seed}.json'
            if file.exists():
                continue
            begin = time.monotonic()
            if args.task == 'cifar':
                result = cifar(way, seed, args.data)
            else:
                result = digits(way, seed, args.out / file.stem)
            result['minutes'] = (time.monotonic() - begin) / 60
            file.with_suffix('.part').write_text(json.dumps(result))
            file.with_suffix('.part').rename(file)
            print(file.name, result, flush=True)
    table(args.out)


if __name__ == '__main__':
    main()
