"""Honest times: several things in turns."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper, build_optim_wrapper
from torch import nn

from .twin import build_model

_Name = TypeVar('_Name')


@dataclass(frozen=True)
class Ratio:
    """Median and quartiles."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> 'Ratio':
        return cls(*statistics.quantiles(values, n=4, method='inclusive'))

    @classmethod
    def between(cls, times: Sequence[float], base: Sequence[float]) -> 'Ratio':
        """Of one thing's times over another's, round by round."""
        return cls.of([a / b for a, b in zip(times, base, strict=True)])

    def __str__(self) -> str:
        return f'{self.median:.3f} ({self.low:.3f} to {self.high:.3f})'


def interleave(
    runs: Mapping[_Name, Callable[[int], object]],
    rounds: int,
    device: str | torch.device = 'cpu',
    warm_up: int = 2,
) -> dict[_Name, tuple[float, ...] | None]:
    """Time several runs in turns (A B C, then C B A).

    Args:
        runs: What to time; each gets the number of the round.
        rounds: How often each is timed.
        device: Whose work is waited for.
        warm_up: How many rounds come before, untimed.

    Returns:
        Seconds of each round; None where the memory did not suffice.
    """
    times: dict[_Name, list[float] | None] = {name: [] for name in runs}
    for number in range(warm_up + rounds):
        order = list(runs) if number % 2 else list(runs)[::-1]
        for name in order:
            taken = times[name]
            if taken is None:
                continue
            try:
                wait(device)
                start = time.perf_counter()
                runs[name](number)
                wait(device)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                times[name] = None
                continue
            if number >= warm_up:
                taken.append(time.perf_counter() - start)
    return {
        name: None if taken is None else tuple(taken)
        for name, taken in times.items()
    }


def wait(device: str | torch.device) -> None:
    """Until a device has done its work."""
    if torch.device(device).type == 'cuda':
        torch.cuda.synchronize(device)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice."""
    # The allocator of the CPU has no error class of its own.
    return isinstance(
        error, (MemoryError, torch.cuda.OutOfMemoryError)
    ) or 'DefaultCPUAllocator' in str(error)


class Trainee:
    """The model and the optimizer of a config, ready for a step.

    Args:
        cfg: Its config; mixed precision is left out.
        device: Where it trains.
    """

    def __init__(self, cfg: Config, device: str = 'cpu') -> None:
        self.model: Any = build_model(cfg).to(device)
        nn.Module.train(self.model, True)
        optimizer = {
            k: v
            for k, v in cfg.optim_wrapper.items()
            if k not in ('type', 'loss_scale', 'dtype')
        }
        self.optimizer: OptimWrapper = build_optim_wrapper(
            self.model, dict(type='OptimWrapper', **optimizer)
        )

    def step(self, batch: dict) -> None:
        """One ``train_step``."""
        self.model.train_step(batch, self.optimizer)
