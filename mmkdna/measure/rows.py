"""Measure a comparison: a row for each conv type, timed in turns."""

import copy
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..adoption import revert
from ..errors import BadInput
from .complexity import parameters
from .configs import PLAIN, conv_cfgs
from .subjects import Subject

Row = dict[str, Any]
Rows = dict[str, Row]
_T = TypeVar('_T')


def build_subjects(
    types: Iterable[str], build: Callable[[dict | None], Subject]
) -> dict[str, Subject | None]:
    """A subject for each conv type, plain first; None if memory ran out."""
    return {
        name: _if_it_fits(partial(build, conv_cfg))
        for name, conv_cfg in conv_cfgs(types).items()
    }


def _if_it_fits(run: Callable[[], _T]) -> _T | None:
    """The result of ``run``; None if memory ran out."""
    try:
        return run()
    except (RuntimeError, MemoryError) as error:
        # The CPU's allocator raises a plain RuntimeError.
        if not isinstance(
            error, (MemoryError, torch.cuda.OutOfMemoryError)
        ) and 'DefaultCPUAllocator' not in str(error):
            raise
        return None


def interleave(
    runs: Mapping[str, Callable[[], object]],
    rounds: int,
    device: str = 'cpu',
) -> dict[str, list[float]]:
    """Time several runs in turns (A B C, then C B A).

    Returns:
        Seconds of each round, after two rounds to warm up. Runs that ran out
        of memory are left out.
    """

    def seconds(run: Callable[[], object]) -> float:
        _wait(device)
        start = time.perf_counter()
        run()
        _wait(device)
        return time.perf_counter() - start

    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(-2, rounds):
        for name in list(times) if number % 2 else list(times)[::-1]:
            last = _if_it_fits(partial(seconds, runs[name]))
            if last is None:
                del times[name]
            elif number >= 0:
                times[name].append(last)
    return times


def _wait(device: str) -> None:
    if torch.device(device).type == 'cuda':
        torch.cuda.synchronize(device)


def measured(
    built: Mapping[str, Subject | None], mode: str, rounds: int, device: str
) -> Rows:
    """Measure each conv type, and return a row for each.

    Args:
        built: The result of :func:`build_subjects`.
        mode: One of MODES; or ``saved``, which measures memory only.
        rounds: How often each is timed.
        device: The device to synchronise with.

    Returns:
        ``parameters``; ``multiply_adds`` of one image; ``seconds``, the
        median of ``rounds``; ``ratio`` to plain in the same round, the
        median, and its ``quartiles``; in bytes, the ``peak`` of a run (GPU)
        or what training has ``saved`` for the backward (CPU). If memory ran
        out, ``seconds`` and ``saved`` are missing.
    """
    # torch compiles one function for 8 models by default, the next run eager.
    torch.compiler.reset()
    torch._dynamo.config.cache_size_limit = 64
    live = {name: s for name, s in built.items() if s is not None}
    rows: Rows = {name: {} for name in built}
    for name, subject in live.items():
        subject.model.train(mode != 'forward')
        rows[name]['parameters'] = parameters(subject.model)
        rows[name]['multiply_adds'] = subject.multiply_adds
    if mode == 'saved':
        if {PLAIN, 'KernelDNA'} <= set(live):
            equalise(live[PLAIN].model, live['KernelDNA'].model)
        fit = list(live)
    else:
        runs = {name: partial(s.run, mode) for name, s in live.items()}
        times = interleave(runs, rounds, device)
        for name, taken in times.items():
            rows[name].update(_timed(taken, times.get(PLAIN)))
        fit = list(times)
    on_gpu = torch.device(device).type == 'cuda' and mode != 'saved'
    for name in fit:
        row, subject = rows[name], live[name]
        # A detector samples its RoIs at random.
        torch.manual_seed(0)
        if on_gpu:
            before = torch.cuda.memory_allocated(device)
            torch.cuda.reset_peak_memory_stats(device)
            subject.run(mode)
            row['peak'] = torch.cuda.max_memory_allocated(device) - before
        elif mode != 'forward':
            row['saved'] = saved_bytes(subject.model, subject.loss)
        subject.model.zero_grad()
    return rows


def _timed(taken: list[float], base: list[float] | None) -> Row:
    """Median and rounds, and the ratio to plain if plain has run."""
    row: Row = dict(seconds=statistics.median(taken), rounds=taken)
    if base:
        low, row['ratio'], high = statistics.quantiles(
            [a / b for a, b in zip(taken, base, strict=True)],
            method='inclusive',
        )
        row['quartiles'] = (low, high)
    return row


def saved_bytes(model: nn.Module, forward: Callable[[], object]) -> int:
    """Memory that a forward holds for the backward, in bytes.

    Each storage counts once; parameters and buffers of the model do not.
    """
    # Of a sharded one, the part that is here.
    own = {
        getattr(tensor, 'to_local', tensor.detach)()
        .untyped_storage()
        .data_ptr()
        for tensor in (*model.parameters(), *model.buffers())
    }
    # Keep the storages: a new one could get the address of a freed one.
    saved: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        result = forward()
    del result
    return sum(storage.nbytes() for storage in saved.values())


def equalise(plain: nn.Module, ours: nn.Module) -> None:
    """Give the plain twin weights with which it computes the same as ours.

    The memory of a two-stage detector depends on the RoIs that it samples,
    and so on its weights. With trained gates, with the authors' sigmoid, or
    if the twin has other layers, the two differ.
    """
    with suppress(BadInput, RuntimeError):
        plain.load_state_dict(revert(copy.deepcopy(ours)).state_dict())
