"""The figures of a comparison, a row for each conv type."""

import statistics
from collections.abc import Mapping
from typing import Any

import torch

from .saved import equalise, saved_bytes
from .subjects import Subject
from .switch import PLAIN
from .timing import Ratio, interleave, wait

Rows = dict[str, dict[str, Any]]


def _memory(subject: Subject, mode: str) -> int | None:
    """Bytes: on a GPU the peak of a run; on a CPU what a forward saves."""
    device = subject.conditions.device
    if torch.device(device).type == 'cuda':
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        subject.run(mode)
        wait(device)
        return torch.cuda.max_memory_allocated(device) - before
    if mode == 'forward':
        return None
    return saved_bytes(subject.model, subject.loss)


def timed_rows(
    built: Mapping[str, Subject | None], mode: str, rounds: int, device: str
) -> Rows:
    """Times of each type, in turns.

    Args:
        built: By the name of the type; None where memory did not suffice.
        mode: One of MODES.
        rounds: How often each is timed.
        device: Whose work is waited for.

    Returns:
        A row for each; where memory did not suffice, its ``seconds`` are
        None.
    """
    live = {name: s for name, s in built.items() if s is not None}
    for subject in live.values():
        subject.prepare(mode)
    times = interleave(
        {
            name: lambda _, subject=subject: subject.run(mode)  # type: ignore
            for name, subject in live.items()
        },
        rounds,
        device,
    )
    rows: Rows = {}
    base = times.get(PLAIN)
    for name in built:
        taken = times.get(name)
        timed = live.get(name)
        if taken is None or timed is None:
            rows[name] = dict(seconds=None)
            continue
        ratio = Ratio.between(taken, base) if base else None
        rows[name] = dict(
            parameters=timed.parameters,
            multiply_adds=timed.multiply_adds,
            seconds=statistics.median(taken),
            ratio=ratio and ratio.median,
            quartiles=ratio and (ratio.low, ratio.high),
            bytes=_memory(timed, mode),
            rounds=list(taken),
        )
        timed.model.zero_grad()
    return rows


def saved_rows(built: Mapping[str, Subject | None]) -> Rows:
    """What each type's forward in training keeps for the backward.

    Args:
        built: As of :func:`timed_rows`; the plain one gets KernelDNA's
            kernels, where it can have them.

    Returns:
        A row for each; where memory did not suffice, its ``bytes`` are None.
    """
    plain, ours = built[PLAIN], built.get('KernelDNA')
    if plain is not None and ours is not None:
        equalise(plain.model, ours.model)
    rows: Rows = {}
    for name, subject in built.items():
        if subject is None:
            rows[name] = dict(bytes=None)
            continue
        subject.prepare('backward')
        # Of the RoIs that a detector samples.
        torch.manual_seed(0)
        rows[name] = dict(
            parameters=subject.parameters,
            bytes=saved_bytes(subject.model, subject.loss),
        )
    return rows
