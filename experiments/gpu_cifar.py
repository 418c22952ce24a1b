"""CIFAR-10: the accuracy of ResNet-18 with each conv type, in minutes."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cifar
import torch
from cifar import Split
from gpu_plan import OURS, PEERS, narrow_enough
from gpu_resnet import ResNet
from gpu_steps import Report, Step
from mmengine.runner import set_random_seed
from torch import Tensor, nn

from mmkdna.measure.complexity import parameters
from mmkdna.measure.configs import PLAIN
from mmkdna.measure.rows import Row, Rows, measured
from mmkdna.measure.subjects import Conditions, Subject, network_subject
from mmkdna.openmmlab.disguise import as_plain
from mmkdna.peers.temperature import annealed, set_temperatures

_SPEED = 'CIFAR-10, speed'
_PUBLISHED = 0.1
"""The part of a run in which temperatures fall."""


def load(folder: Path, count: int | None = None) -> dict[str, Split]:
    """Images and labels of each split, as of :func:`cifar.read`."""
    return {split: cifar.read(folder, split, count) for split in cifar.SPLITS}


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

    data: dict[str, Split]
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
        batches = math.ceil(len(self.data['train'].labels) / self.how.batch)
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
        net, device = self.subject(name).model, self.how.device
        train, test = (
            Split(*(tensor.to(device) for tensor in self.data[split]))
            for split in cifar.SPLITS
        )
        recipe = cifar.Recipe(
            epochs, 0.2, len(train.labels), self.how.batch, warm_up=0.2
        )
        loss, layers = cifar.cross_entropy(recipe), annealed(net)

        def criterion(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
            with self.autocast():
                return loss(net, x, y)

        def anneal(progress: float) -> None:
            set_temperatures(layers, min(progress / _PUBLISHED, 1))

        cifar.train(
            net, train, recipe, seed, criterion=criterion, each_step=anneal
        )
        with self.autocast():
            return cifar.accuracy(net, test)

    def autocast(self) -> torch.autocast:
        kind = torch.device(self.how.device).type
        return torch.autocast(kind, getattr(torch, self.how.dtype))
