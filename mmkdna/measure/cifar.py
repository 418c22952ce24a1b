"""CIFAR-10: the accuracy of ResNet-18 with each conv type, in minutes."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import mmcv
import numpy as np
import torch
import torch.nn.functional as F
from mmengine.runner import set_random_seed
from torch import Tensor

from ..errors import BadInput
from ..openmmlab.disguise import as_plain
from ..peers.temperature import annealed, set_temperatures
from .complexity import parameters
from .configs import PLAIN
from .gpu import OURS, PEERS, narrow_enough
from .resnet import ResNet
from .rows import Row, Rows, measured
from .steps import Report, Step
from .subjects import Conditions, Subject, network_subject

SPLITS = ('train', 'test')
_SPEED = 'CIFAR-10, speed'
_PUBLISHED = 0.1
"""The part of a run in which temperatures fall."""


def load(folder: Path, count: int | None = None) -> dict[str, tuple]:
    """Images and labels of each split, as of :func:`read`."""
    return {split: read(folder, split, count) for split in SPLITS}


def read(
    folder: Path, split: str, count: int | None = None
) -> tuple[Tensor, Tensor]:
    """Images ``(N, 32, 32, 3)`` of uint8 RGB and labels ``(N,)``.

    Args:
        folder: Of ``cifar10_train.npz`` and ``cifar10_test.npz``, with the
            arrays ``jpeg`` (the bytes of all files), ``offsets`` and
            ``labels``.
        split: Which of the two.
        count: At most so many; None for all.

    Raises:
        BadInput: If they are not there, or hold something else.
    """
    path = folder / f'cifar10_{split}.npz'
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
        return torch.from_numpy(np.stack(pixels)), labels
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise BadInput(
            f'--data {folder}: {path.name} cannot be read ({error}); '
            'expected a folder of cifar10_train.npz and cifar10_test.npz '
            'with the arrays jpeg, offsets and labels'
        ) from error


@dataclass(frozen=True)
class Comparison:
    """ResNet-18 with a 3x3 stem on CIFAR-10.

    Args:
        data: As of :func:`load`.
        how: Batch, device and the dtype of autocast.
        width: Channels of the first stage.
        rounds: How often a step is timed.
        epochs: The fewest and the most of a run.
        seeds: The most of a network.
    """

    data: dict[str, tuple]
    how: Conditions
    width: int
    rounds: int
    epochs: tuple[int, int]
    seeds: int = 5

    def subject(self, name: str) -> Subject:
        """A network by its name in the table, initialised."""
        depths, width, conv_cfg = (2, 2, 2, 2), self.width, None
        if name == 'KernelDNA, deeper':
            # As the paper's: a block more in the last two stages.
            depths = (2, 2, 3, 3)
            conv_cfg = dict(type='KernelDNA', family_size=[3, 2])
        elif name == 'plain, narrowed':
            both = (self.subject(n).model for n in (*OURS, PLAIN))
            ours, plain = map(parameters, both)
            width = round(width * math.sqrt(ours / plain))
        elif name != PLAIN:
            conv_cfg = dict(type=name)
        conv_cfg = narrow_enough(conv_cfg, self.width)
        net = ResNet('basic', depths, width, 10, small=True)
        subject = network_subject(net, conv_cfg, self.how)
        with as_plain(net):
            net.init_weights()
        return subject

    def run(self, report: Report, end: float) -> None:
        """Time the networks once, then train as many as the time allows."""
        names = (PLAIN, 'plain, narrowed', *OURS, 'KernelDNA, deeper', *PEERS)
        speed = Step(_SPEED, 60, 'times', partial(self.speed, names))
        report.run([speed], end)
        if _SPEED not in report.done:
            return
        found = report.done[_SPEED]
        rows: Rows = found['rows']
        batches = math.ceil(len(self.data['train'][1]) / self.how.batch)
        seconds = {
            name: 1.2 * batches * row['seconds']
            for name, row in rows.items()
            if 'seconds' in row
        }
        if 'epochs' not in found:
            # One seed of all in the time; at least so many, at most so many.
            fits = (end - time.monotonic()) / sum(seconds.values())
            low, high = self.epochs
            found['epochs'] = min(max(int(fits), low), high)
            report.write()
        report.run(self.runs(found['epochs'], rows, seconds), end)

    def speed(self, names: tuple[str, ...]) -> dict:
        """A training step of each network, in turns."""
        subjects = {name: self.subject(name) for name in names}
        how = self.how
        return dict(rows=measured(subjects, 'step', self.rounds, how.device))

    def runs(
        self, epochs: int, rows: Rows, seconds: dict[str, float]
    ) -> Iterator[Step]:
        """A step for each seed and network."""
        title = f'CIFAR-10, ResNet-18, {epochs} epochs, {self.how}'
        for seed in range(self.seeds):
            for name in seconds:
                row = {k: v for k, v in rows[name].items() if k != 'rounds'}
                yield Step(
                    f'{title}: {name}, seed {seed}',
                    epochs * seconds[name],
                    'run',
                    partial(self.shown, name, seed, epochs, title, row),
                )

    def shown(
        self, name: str, seed: int, epochs: int, title: str, row: Row
    ) -> dict:
        """A run as the report shows it: a row's score in a table."""
        accuracy = self.result(name, seed, epochs)
        return dict(network=name, title=title, row=row, accuracy=accuracy)

    def result(self, name: str, seed: int, epochs: int) -> float:
        """The accuracy of one run, in percent."""
        set_random_seed(seed)
        subject = self.subject(name)
        net, device = subject.model, self.how.device
        images, labels = (t.to(device) for t in self.data['train'])
        batches = math.ceil(len(labels) / self.how.batch)
        total = epochs * batches
        optimizer = torch.optim.SGD(
            net.parameters(), 0.2, 0.9, weight_decay=5e-4, nesterov=True
        )
        rate = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, 0.2, total, pct_start=0.2, cycle_momentum=False
        )
        layers = annealed(net)
        net.train()
        for step in range(total):
            if step % batches == 0:
                order = torch.randperm(len(labels), device=device)
            set_temperatures(layers, step / max(_PUBLISHED * total, 1))
            chosen = order.tensor_split(batches)[step % batches]
            loss = F.cross_entropy(
                self.logits(net, augmented(images[chosen])), labels[chosen]
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate.step()
        return self.accuracy(net)

    def logits(self, net: torch.nn.Module, images: Tensor) -> Tensor:
        """Of images ``(N, 32, 32, 3)`` of uint8."""
        how = self.how
        x = (images.permute(0, 3, 1, 2).float() - 120) / 64
        kind = torch.device(how.device).type
        with torch.autocast(kind, getattr(torch, how.dtype)):
            return net(x).float()

    def accuracy(self, net: torch.nn.Module) -> float:
        """On the test images, in percent."""
        net.eval()
        images, labels = (t.to(self.how.device) for t in self.data['test'])
        with torch.no_grad():
            found = [
                self.logits(net, part).argmax(1)
                for part in images.split(4 * self.how.batch)
            ]
        return 100 * float((torch.cat(found) == labels).float().mean())


def augmented(images: Tensor) -> Tensor:
    """Shifted by up to 4 pixels and flipped, each image ``(H, W, 3)``."""
    count, size, device = len(images), images.shape[1], images.device
    padded = F.pad(images, (0, 0, 4, 4, 4, 4))
    shift = torch.randint(9, (2, count, 1), device=device)
    line = torch.arange(size, device=device)
    rows, columns = shift[0] + line, shift[1] + line
    flip = torch.rand(count, 1, device=device) < 0.5
    columns = torch.where(flip, columns.flip(1), columns)
    each = torch.arange(count, device=device)[:, None, None]
    return padded[each, rows[:, :, None], columns[:, None, :]]
