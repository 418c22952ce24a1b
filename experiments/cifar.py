"""CIFAR-10 in memory, and one way of training on it.

The images are two files of a folder that the user names, cifar10_train.npz and
cifar10_test.npz, each with the arrays jpeg, offsets and labels.
"""

import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import mmcv
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmkdna.errors import BadInput

SPLITS = ('train', 'test')
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PAD, TESTED_AT_ONCE = 4, 500


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: SGD, up a line, then down a cosine.

    Args:
        images: How many of the training images, from the first on.
        warm_up: Share of the steps in which the learning rate rises.
    """

    epochs: int
    lr: float
    images: int = 50_000
    batch: int = 128
    momentum: float = 0.9
    decay: float = 5e-4
    smoothing: float = 0.1
    warm_up: float = 0.1

    @property
    def steps(self) -> int:
        return self.epochs * (self.images // self.batch)

    def rate(self, progress: float) -> float:
        """The learning rate at a share of the run, from 0 to 1."""
        if progress < self.warm_up:
            return self.lr * progress / self.warm_up
        down = (progress - self.warm_up) / (1 - self.warm_up)
        return self.lr * (1 + math.cos(math.pi * down)) / 2


class Split(NamedTuple):
    """Images of one kind: ``(N, H, W, 3)`` uint8 RGB, labels ``(N,)``."""

    pixels: Tensor
    labels: Tensor


def read(folder: Path, kind: str, count: int | None = None) -> Split:
    """The images of ``cifar10_KIND.npz``: all, or at most the first ones.

    Raises:
        BadInput: If the file is not there, or holds something else.
    """
    path = folder / f'cifar10_{kind}.npz'
    try:
        data = np.load(path)
        starts, jpeg = data['offsets'], data['jpeg']
        labels = torch.from_numpy(data['labels'][:count]).long()
        pixels = [
            mmcv.imfrombytes(
                jpeg[starts[i] : starts[i + 1]].tobytes(),
                channel_order='rgb',
            )
            for i in range(len(labels))
        ]
        return Split(torch.from_numpy(np.stack(pixels)), labels)
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise BadInput(
            f'--data {folder}: {path.name} cannot be read ({error}); '
            'expected a folder of cifar10_train.npz and cifar10_test.npz '
            'with the arrays jpeg, offsets and labels'
        ) from error


def reader(folder: Path, count: int) -> Callable[[str], Split]:
    """Both kinds of images, each read when it is asked for first.

    Raises:
        BadInput: If there are fewer than ``count`` to train on.
    """

    @functools.cache
    def images(kind: str) -> Split:
        if kind == 'test':
            return read(folder, kind)
        found = read(folder, kind, count)
        if (there := len(found.labels)) < count:
            raise BadInput(
                f'--images {count}: expected at most the {there} of {folder}'
            )
        return found

    return images


def normalised(pixels: Tensor) -> Tensor:
    """``(N, H, W, 3)`` uint8 as ``(N, 3, H, W)``, channels last."""
    scale, shift = (
        torch.tensor(each, device=pixels.device) * 255 for each in (STD, MEAN)
    )
    return ((pixels.float() - shift) / scale).permute(0, 3, 1, 2)


def padded(pixels: Tensor) -> Tensor:
    """With a border of the mean colour, for :func:`crops`."""
    count, height, width, _ = pixels.shape
    shape = count, height + 2 * PAD, width + 2 * PAD, 3
    border = torch.tensor(MEAN).mul(255).round().to(torch.uint8)
    around = border.to(pixels.device).expand(shape).contiguous()
    around[:, PAD : PAD + height, PAD : PAD + width] = pixels
    return around


def crops(around: Tensor, chosen: Tensor, draw: torch.Generator) -> Tensor:
    """A crop of each chosen image at a place of its own, half of them flipped.

    Args:
        around: As of :func:`padded`.
        chosen: Numbers of images, ``(n,)``.
    """
    count, size = len(chosen), around.shape[1] - 2 * PAD
    place = torch.randint(0, 2 * PAD + 1, (2, count, 1), generator=draw)
    rows, columns = place + torch.arange(size)
    flip = torch.rand(count, 1, generator=draw) < 0.5
    columns = torch.where(flip, columns.flip(1), columns)
    return around[chosen[:, None, None], rows[:, :, None], columns[:, None]]


Criterion = Callable[[nn.Module, Tensor, Tensor], Tensor]


def cross_entropy(recipe: Recipe) -> Criterion:
    """The loss of a network on images and labels."""
    return lambda net, x, y: F.cross_entropy(
        net(x), y, label_smoothing=recipe.smoothing
    )


def has_decay(name: str, parameter: nn.Parameter) -> bool:
    """Kernels and matrices have it; biases and norms have not."""
    return parameter.dim() > 1


def train(
    net: nn.Module,
    images: Split,
    recipe: Recipe,
    seed: int,
    *,
    steps: int | None = None,
    criterion: Criterion | None = None,
    decays: Callable[[str, nn.Parameter], bool] = has_decay,
    each_step: Callable[[float], None] = lambda progress: None,
) -> float:
    """Train a network.

    Args:
        net: Changed in place, on the device of the images.
        images: What it is trained on, see ``recipe.images``.
        seed: Of the order of the images, and of their crops.
        steps: Fewer or more than the recipe has; the learning rate falls to
            its end all the same.
        criterion: The loss; by default the recipe's cross-entropy.
        decays: Which parameters have weight decay.
        each_step: Called before each step with the share of the run.

    Returns:
        Seconds of processor time.

    Raises:
        BadInput: If the loss is not finite.
    """
    draw = torch.Generator().manual_seed(seed)
    criterion = criterion or cross_entropy(recipe)
    steps = recipe.steps if steps is None else steps
    around = padded(images.pixels[: recipe.images])
    net.train()
    for parameter in net.parameters():
        # The dynamic convolutions have some of five axes, too.
        if parameter.dim() == 4:
            parameter.data = parameter.data.to(
                memory_format=torch.channels_last
            )
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in net.named_parameters():
        groups[decays(name, parameter)].append(parameter)
    parts: list[dict[str, Any]] = [
        {'params': groups[True], 'weight_decay': recipe.decay},
        {'params': groups[False]},
    ]
    optimizer = torch.optim.SGD(parts, lr=recipe.lr, momentum=recipe.momentum)
    begin = time.process_time()
    order: list[Tensor] = []
    for step in range(steps):
        if not order:
            shuffled = torch.randperm(len(around), generator=draw)
            order = [*shuffled.split(recipe.batch)]
            order = order[: len(around) // recipe.batch]
        chosen = order.pop()
        # Never 0, nor quite at the end.
        progress = (step + 0.5) / steps
        each_step(progress)
        for group in optimizer.param_groups:
            group['lr'] = recipe.rate(progress)
        x = normalised(crops(around, chosen, draw))
        loss = criterion(net, x, images.labels[chosen])
        if not loss.isfinite():
            raise BadInput(
                f'the loss is {loss.item()} in step {step + 1} of {steps}, '
                f'expected a finite number; train with less than lr='
                f'{recipe.lr}'
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return time.process_time() - begin


@torch.no_grad()
def accuracy(net: nn.Module, images: Split) -> float:
    """In percent; the network is left in the mode it was in."""
    mode = net.training
    net.eval()
    right = sum(
        int((net(normalised(pixels)).argmax(1) == labels).sum())
        for pixels, labels in zip(
            images.pixels.split(TESTED_AT_ONCE),
            images.labels.split(TESTED_AT_ONCE),
            strict=True,
        )
    )
    net.train(mode)
    return 100 * right / len(images.labels)
