"""Time of training steps, two models in turns."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper, build_optim_wrapper
from torch import nn

from .twin import build_model


@dataclass(frozen=True)
class Ratio:
    """Median and quartiles."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> 'Ratio':
        return cls(*statistics.quantiles(values, n=4, method='inclusive'))

    def __str__(self) -> str:
        return f'{self.median:.3f} ({self.low:.3f} to {self.high:.3f})'


@dataclass(frozen=True)
class StepTimes:
    """Seconds of a step of each model, of all rounds."""

    kernel_dna: tuple[float, ...]
    plain: tuple[float, ...]

    @property
    def ratio(self) -> Ratio:
        """KernelDNA's time over the plain twin's, round by round."""
        return Ratio.of(
            [a / b for a, b in zip(self.kernel_dna, self.plain, strict=True)]
        )


class Trainee:
    """A model and its optimizer, ready for a step.

    Args:
        cfg: Its config; mixed precision is left out.
        device: Where it trains.
    """

    def __init__(self, cfg: Config, device: str = 'cpu') -> None:
        self.device = torch.device(device)
        self.model: Any = build_model(cfg).to(self.device)
        nn.Module.train(self.model, True)
        optimizer = {
            k: v
            for k, v in cfg.optim_wrapper.items()
            if k not in ('type', 'loss_scale', 'dtype')
        }
        self.optimizer: OptimWrapper = build_optim_wrapper(
            self.model, dict(type='OptimWrapper', **optimizer)
        )

    def step(self, batch: dict) -> float:
        """One ``train_step``; its seconds, the device's work included."""
        self._wait()
        start = time.perf_counter()
        self.model.train_step(batch, self.optimizer)
        self._wait()
        return time.perf_counter() - start

    def _wait(self) -> None:
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)


def interleaved_steps(
    kernel_dna: Trainee,
    plain: Trainee,
    batches: Sequence[dict],
    rounds: int,
    warm_up: int = 2,
) -> StepTimes:
    """Time both in turns (A B, then B A), each round on the same batch.

    Args:
        kernel_dna, plain: The two to compare.
        batches: Used one after the other, again from the start at the end.
        rounds: How many steps of each are timed.
        warm_up: How many of each come before, untimed.
    """
    times: dict[Trainee, list[float]] = {kernel_dna: [], plain: []}
    for number in range(warm_up + rounds):
        pair = list(times) if number % 2 else list(times)[::-1]
        for trainee in pair:
            seconds = trainee.step(batches[number % len(batches)])
            if number >= warm_up:
                times[trainee].append(seconds)
    return StepTimes(tuple(times[kernel_dna]), tuple(times[plain]))
