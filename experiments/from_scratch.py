"""Networks of equal size on CIFAR-10, trained from scratch by one recipe.

A narrow ResNet of basic blocks: plain, narrowed, with parts of KernelDNA, with
all of it, and with the other conv types. Each run is twelve epochs of all
images. It prints a table and draws accuracy against parameters, multiply-adds
and training time.

Those that end in _time train for as many steps as take the time of plain's
run; short trainings in turns with plain say how many. It resumes: a run whose
result is there is not run again.

    python experiments/from_scratch.py --data DIR
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import cifar
import networks
import results
import torch
from cifar import Recipe
from networks import ResNet
from torch import nn

import mmkdna
from mmkdna.checkpoint import write_weights
from mmkdna.cli import exit_on_bad_input
from mmkdna.measure.subjects import switch_convs
from mmkdna.peers.temperature import annealed, set_temperatures

OUT = Path(__file__).with_suffix('')
SETTINGS = dict(min_channels=32)
DEEP, WIDE, RANK = (2, 2, 3, 3), 18, 8
ANNEALED, PENALTY = 0.5, 0.1
TIME = '_time'
"""Ends the names of those that train as long as plain."""
ROUNDS, TIMED = 3, 15
"""How often, and by how many steps, a network is timed beside plain."""


def kernel_dna(
    blocks: tuple[int, ...] = (2, 2, 2, 2), width: int = 16, **settings: int
) -> nn.Module:
    return mmkdna.convert(ResNet(blocks, width), **SETTINGS | settings)


def peer(**conv_cfg: Any) -> Callable[[], nn.Module]:
    return lambda: switch_convs(ResNet(), conv_cfg)


class Subject(NamedTuple):
    title: str
    build: Callable[[], nn.Module]


FIRST = {
    'plain': Subject('plain', ResNet),
    'narrow': Subject('plain, narrowed', partial(ResNet, width=14)),
    'gates': Subject(
        'plain with the gates alone',
        lambda: networks.gates_alone(ResNet(), **SETTINGS),
    ),
    'tied': Subject(
        'tied kernels, no adapter',
        lambda: networks.tied(ResNet(), **SETTINGS),
    ),
    'kernel_dna': Subject('KernelDNA', kernel_dna),
    'kernel_dna_late': Subject(
        'KernelDNA, last two stages', partial(kernel_dna, min_channels=64)
    ),
    'kernel_dna_rank': Subject(
        f'KernelDNA, rank {RANK}',
        lambda: networks.with_rank(kernel_dna(), RANK),
    ),
    'kernel_dna_deep': Subject(
        'KernelDNA, blocks 2,2,3,3', partial(kernel_dna, DEEP)
    ),
    'plain_deep': Subject('plain, blocks 2,2,3,3', partial(ResNet, DEEP)),
    'kernel_dna_wide': Subject(
        f'KernelDNA, last two stages, width {WIDE}',
        partial(kernel_dna, width=WIDE, min_channels=64),
    ),
}
PEERS = {
    'kernel_warehouse_half': Subject(
        'KernelWarehouse 1/2', peer(type='KernelWarehouse', budget=0.5)
    ),
    'kernel_warehouse': Subject(
        'KernelWarehouse 1x', peer(type='KernelWarehouse')
    ),
    'odconv': Subject('ODConv', peer(type='ODConv')),
    'dyconv': Subject('DyConv', peer(type='DyConv')),
}
AS_LONG = {
    name + TIME: Subject(f"{title}, plain's time", build)
    for name, (title, build) in {
        'kernel_dna': FIRST['kernel_dna'],
        **PEERS,
    }.items()
}
ONCE = {
    'undecayed': Subject('KernelDNA, adapters not decayed', kernel_dna),
    'orthogonal': Subject('KernelDNA, parents orthogonal', kernel_dna),
}
SUBJECTS = FIRST | PEERS | AS_LONG | ONCE
RUNS_IN_ORDER = ((FIRST, None), (PEERS | AS_LONG, 2), (ONCE, 1))
"""What is run, and with how many of the seeds at most."""


def anneal(net: nn.Module, progress: float) -> None:
    """Move the temperatures of dynamic convolutions over half of the run."""
    set_temperatures(annealed(net), min(progress / ANNEALED, 1))


def without_adapters(name: str, parameter: nn.Parameter) -> bool:
    adapter = '.adapter.' in name
    return cifar.has_decay(name, parameter) and not adapter


def steps_in_plains_time(
    build: Callable[[], nn.Module], recipe: Recipe, images: cifar.Split
) -> int:
    """How many steps take as long as all of plain's."""
    ratios = []
    for _ in range(ROUNDS):
        own, plain = (
            cifar.train(net(), images, recipe, 0, steps=TIMED)
            for net in (build, ResNet)
        )
        ratios.append(own / plain)
    return max(round(recipe.steps / median(ratios)), 1)


def train(
    name: str,
    seed: int,
    recipe: Recipe,
    there: results.Results,
    images: Callable[[str], cifar.Split],
) -> dict[str, Any]:
    """One run: what it reached, and what it cost."""
    steps = recipe.steps
    if name.endswith(TIME):
        steps = steps_in_plains_time(
            SUBJECTS[name].build, recipe, images('train')
        )
    criterion = cifar.cross_entropy(recipe)

    def penalised(net: nn.Module, x: Any, y: Any) -> Any:
        return criterion(net, x, y) + PENALTY * networks.orthogonality(net)

    torch.manual_seed(seed)
    net = SUBJECTS[name].build()
    seconds = cifar.train(
        net,
        images('train'),
        recipe,
        seed,
        steps=steps,
        criterion=penalised if name == 'orthogonal' else criterion,
        decays=without_adapters if name == 'undecayed' else cifar.has_decay,
        each_step=partial(anneal, net),
    )
    if name == 'plain':
        path = there.folder / f'plain-{seed}.safetensors'
        write_weights(net.state_dict(), str(path), {})
    return dict(
        accuracy=cifar.accuracy(net, images('test')),
        **results.size_of(net),
        seconds=round(seconds, 1),
        steps=steps,
    )


def main(argv: Sequence[str] | None = None) -> None:
    args = results.parser(__doc__, SUBJECTS, OUT, epochs=12).parse_args(argv)
    results.set_up(args)
    recipe = Recipe(epochs=args.epochs, lr=0.2, images=args.images)
    there = results.Results(args.out, asdict(recipe))
    cells = [
        (name, seed)
        for subjects, most in RUNS_IN_ORDER
        for seed in args.seeds[:most]
        for name in subjects
    ]
    images = cifar.reader(args.data, args.images)
    titles = {name: subject.title for name, subject in SUBJECTS.items()}
    results.carry_out(
        args,
        there,
        cells,
        lambda *cell: train(*cell, recipe, there, images),
        titles,
    )


if __name__ == '__main__':
    exit_on_bad_input(main)
