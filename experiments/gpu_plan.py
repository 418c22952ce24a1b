"""What the GPU report measures, in the order of what matters."""

import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from gpu_resnet import BLOCKS, ResNet
from gpu_steps import Step
from torch.autograd import DeviceType
from torch.distributed.device_mesh import init_device_mesh
from torch.profiler import ProfilerActivity, profile

from mmkdna.files import write_json
from mmkdna.measure.configs import CONV_TYPES, PLAIN
from mmkdna.measure.rows import build_subjects, measured
from mmkdna.measure.subjects import (
    Conditions,
    Subject,
    layer_subject,
    network_subject,
    sgd,
)
from mmkdna.sharding import fsdp2, shard_families

OURS, PEERS = CONV_TYPES[:1], CONV_TYPES[1:]
_TOP = 20
# Seconds an image on an H100, plain and eager: a guess that plans the time.
_GUESS = {
    ('forward', 'bfloat16'): 0.3e-3,
    ('forward', 'float32'): 0.6e-3,
    ('step', 'bfloat16'): 0.8e-3,
    ('step', 'float32'): 1.3e-3,
}
_LAUNCHES = dict(forward=0.015, step=0.04)
_COMPILES = dict(forward=20, step=45)
_TIMES_PLAIN = {PLAIN: 1, 'KernelDNA': 1, 'KernelWarehouse': 4, 'FDConv': 6}


@dataclass(frozen=True)
class Sizes:
    """What is measured: R-50 and a layer as they are, or tiny."""

    width: int = 64
    depths: tuple[int, ...] = (3, 4, 6, 3)
    image: int = 224
    batches: tuple[int, ...] = (64, 16)
    layer: tuple[int, int, int] = (256, 256, 3)
    layer_image: tuple[int, int] = (50, 84)
    rounds: int = 20
    backend: str = 'inductor'


TINY = Sizes(4, (1, 1, 3), 32, (2,), (8, 8, 3), (8, 8), 2, 'eager')


def narrow_enough(conv_cfg: dict | None, width: int) -> dict | None:
    """Of KernelDNA: sharing from the width on at which it does in R-50."""
    if conv_cfg is not None and conv_cfg['type'] == OURS[0]:
        return {'min_channels': 4 * width, **conv_cfg}
    return conv_cfg


def resnet50(sizes: Sizes, conv_cfg: dict | None, how: Conditions) -> Subject:
    """R-50 with a conv type."""
    net = ResNet('bottleneck', sizes.depths, sizes.width)
    return network_subject(net, narrow_enough(conv_cfg, sizes.width), how)


def plan(sizes: Sizes, device: str) -> Iterator[Step]:
    """All steps but those that need data, what matters most first."""
    combinations = [
        (batch, dtype, mode)
        for batch in sizes.batches
        for dtype in ('bfloat16', 'float32')
        for mode in ('forward', 'step')
    ]
    image = (sizes.image, sizes.image)

    def networks(types: tuple[str, ...], backend: str) -> Iterator[Step]:
        for batch, dtype, mode in combinations:
            how = Conditions(batch, image, device, dtype, True, backend)
            build = partial(resnet50, sizes, how=how)
            many = sum(_TIMES_PLAIN.get(name, 3) for name in (PLAIN, *types))
            once = max(batch * _GUESS[mode, dtype], _LAUNCHES[mode])
            seconds = 5 + many * once * (sizes.rounds + 3)
            seconds += _COMPILES[mode] * (1 + len(types)) * bool(backend)
            title = f'R-50, {mode}, {how}'
            if backend:
                title += f', {"KernelDNA" if types == OURS else "the others"}'
            times = partial(timed, types, build, mode, sizes.rounds, device)
            yield Step(title, seconds, 'times', times)

    yield from networks(CONV_TYPES, '')
    for dtype in ('bfloat16', 'float32'):
        for mode in ('forward', 'step'):
            how = Conditions(sizes.batches[0], image, device, dtype, True)
            build = partial(resnet50, sizes, how=how)
            title = f'R-50, kernels of a {mode}, {how}'
            yield Step(title, 8, 'kernels', partial(kernels, build, mode))
    for mode in ('forward', 'backward'):
        batch = sizes.batches[-1]
        how = Conditions(batch, sizes.layer_image, device, 'bfloat16', True)
        build = partial(layer_subject, sizes.layer, how=how)
        title = f'layer {"x".join(map(str, sizes.layer))}, {mode}, {how}'
        rounds = 3 * sizes.rounds
        times = partial(timed, CONV_TYPES, build, mode, rounds, device)
        yield Step(title, 10, 'times', times)
    count = torch.cuda.device_count() if device.startswith('cuda') else 2
    how = Conditions(sizes.batches[0], image, device, 'bfloat16')
    title = f'R-50, FSDP2 on {count}, step, {how}'
    share = partial(sharded, sizes, count, how)
    yield Step(title, 40, 'times', share)
    yield from networks(OURS, sizes.backend)
    yield from networks(PEERS, sizes.backend)


def timed(
    types: tuple[str, ...],
    build: Callable[[dict | None], Subject],
    mode: str,
    rounds: int,
    device: str,
) -> dict:
    """Times in turns, as :func:`~mmkdna.measure.rows.measured` has them."""
    built = build_subjects(types, build)
    return dict(rows=measured(built, mode, rounds, device))


def kernels(build: Callable[[dict | None], Subject], mode: str) -> dict:
    """The kernels whose time differs most from plain's, of one run.

    On a CPU they are torch's operators. Seconds, of KernelDNA and of plain.
    """
    found = {}
    for name, subject in build_subjects(OURS, build).items():
        if subject is None:
            return dict(kernels={})
        found[name] = _profiled(subject, mode)
    ours, plain = found[OURS[0]], found[PLAIN]
    both = {
        name: (ours.get(name, 0.0), plain.get(name, 0.0))
        for name in {**ours, **plain}
    }
    order = sorted(both, key=lambda name: -abs(both[name][0] - both[name][1]))
    whole = (sum(ours.values()), sum(plain.values()))
    top = {name: both[name] for name in order[:_TOP]}
    return dict(kernels={'all of them': whole, **top})


def _profiled(subject: Subject, mode: str, runs: int = 5) -> dict[str, float]:
    """Seconds of each kernel in one run."""
    on_gpu = torch.device(subject.how.device).type == 'cuda'
    subject.model.train(mode != 'forward')
    subject.run(mode)
    activities = [ProfilerActivity.CPU]
    if on_gpu:
        activities = [ProfilerActivity.CUDA]
        torch.cuda.synchronize(subject.how.device)
    with profile(activities=activities) as profiler:
        for _ in range(runs):
            subject.run(mode)
        if on_gpu:
            torch.cuda.synchronize(subject.how.device)
    taken = {}
    for event in profiler.key_averages():
        total = event.self_cpu_time_total
        if on_gpu:
            if event.device_type != DeviceType.CUDA:
                continue
            # torch 2.4 and later; before that, of cuda.
            old = 'self_cuda_time_total'
            total = getattr(event, 'self_device_time_total', None)
            total = getattr(event, old) if total is None else total
        taken[event.key] = total / runs / 1e6
    return taken


def sharded(sizes: Sizes, count: int, how: Conditions) -> dict:
    """A training step by FSDP2, a unit for each block, as rank 0 timed it."""
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(
            _process, (count, sizes, how, Path(folder)), nprocs=count
        )
        return json.loads(Path(folder, 'rows.json').read_text())


def _process(
    rank: int, count: int, sizes: Sizes, how: Conditions, folder: Path
) -> None:
    kind = torch.device(how.device).type
    if kind == 'cuda':
        torch.cuda.set_device(rank)
        how = replace(how, device=f'cuda:{rank}')
    else:
        torch.set_num_threads(1)
    dist.init_process_group(
        'nccl' if kind == 'cuda' else 'gloo',
        init_method=f'file://{folder}/store',
        rank=rank,
        world_size=count,
    )
    mesh = init_device_mesh(kind, (count,))
    build = partial(resnet50, sizes, how=how)
    built = build_subjects(OURS, build)
    for subject in built.values():
        if subject is not None:
            _shard(subject, mesh)
    rows = measured(built, 'step', sizes.rounds, how.device)
    if rank == 0:
        write_json(dict(rows=rows), folder / 'rows.json')
    dist.barrier()
    dist.destroy_process_group()


def _shard(subject: Subject, mesh: Any) -> None:
    """In place; the optimizer is one of the sharded parameters."""
    shard_families(subject.model, mesh=mesh)
    blocks = tuple(BLOCKS.values())
    units = [m for m in subject.model.modules() if isinstance(m, blocks)]
    for unit in (*units, subject.model):
        fsdp2().fully_shard(unit, mesh=mesh)
    subject.optimizer = sgd(subject.model)
