"""A trained plain network becomes smaller, by KernelDNA and by other ways.

Each way starts from the weights of one plain network and trains for five
epochs, at the size that sharing has: about 15, 25 or 40 percent fewer
parameters than plain. The controls: each kernel cut to a low rank by its SVD;
pruned (pip install torch-pruning); narrowed, which starts from scratch by the
recipe of from_scratch.py, twelve epochs. Ways that end in _taught learn from
plain as fine-tuned with the same seed, which has to be there.

    python experiments/adoption.py resnet20 --data DIR
    python experiments/adoption.py resnet18 --data DIR --weights FILE

resnet20 are the weights DIR/resnet20_cifar10.safetensors; resnet18 those of
from_scratch.py, plain-0.safetensors in its folder of results. It resumes: a
run whose result is there is not run again.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import cifar
import networks
import results
import torch
import torch.nn.functional as F
from cifar import Recipe
from networks import ResNet
from torch import Tensor, nn

import mmkdna
from mmkdna.checkpoint import read_weights, write_weights
from mmkdna.cli import exit_on_bad_input
from mmkdna.errors import BadInput
from mmkdna.measure.complexity import parameters

OUT = Path(__file__).with_suffix('')
FROM_SCRATCH = dict(epochs=12, lr=0.2)
ALL = dict(min_channels=32)
"""All families that the rule finds; with a rank, it has the size of 25."""


class Base(NamedTuple):
    """A plain network, and what shares at each size."""

    build: Callable[..., ResNet]
    sizes: Mapping[int, Mapping[str, Any]]


BASES = {
    'resnet20': Base(
        networks.resnet20,
        {
            15: dict(min_channels=32, family_size=(2,)),
            25: dict(min_channels=64),
            40: dict(min_channels=64, family_size=(3, 2)),
        },
    ),
    'resnet18': Base(
        ResNet,
        {
            15: dict(min_channels=128),
            25: ALL,
            40: dict(min_channels=128, family_size=3),
        },
    ),
}
TEMPERATURE, BATCHES, PLANNED = 2.0, 100, 1280


class Way(NamedTuple):
    """How a plain network becomes a smaller one.

    Args:
        size: Percent of the parameters to save; 0 is plain.
        by: ``'sharing'`` by the rule, ``'planned'``, or a control's name.
        rank: Of a child's low-rank part, by SVD of what is left; 0 is none.
        averaged: Whether a parent starts as the mean of its family.
        estimated: Whether BatchNorm sees images before the training.
        taught: Whether plain teaches logits and features.
    """

    title: str
    size: int = 25
    by: str = 'sharing'
    rank: int = 0
    averaged: bool = False
    estimated: bool = False
    taught: bool = False


CONTROLS = {
    'low_rank': ('low rank by SVD', networks.low_rank, range(1, 90)),
    'pruned': ('pruned', networks.pruned, range(1, 99)),
    'narrowed': ('narrowed, from scratch', networks.narrowed, range(1, 16)),
}
"""By name: title, ``build(plain, degree)``, and the degrees to choose from."""


def _sized(size: int) -> dict[str, Way]:
    """Sharing and its controls at one size, each taught but the narrowed."""
    ways = {
        f'shared{size}_taught': Way(
            f'KernelDNA, -{size} %, taught', size, taught=True
        )
    }
    for name, (title, *_) in CONTROLS.items():
        taught = name != 'narrowed'
        ways[f'{name}{size}' + '_taught' * taught] = Way(
            f'{title}, -{size} %' + ', taught' * taught,
            size,
            name,
            taught=taught,
        )
    return ways


RANK = 10
WAYS = {
    'plain': Way('plain, fine-tuned as long', 0),
    'shared25': Way('KernelDNA, -25 %'),
    **_sized(25),
    'low_rank25': Way('low rank by SVD, -25 %', by='low_rank'),
    'rank_taught': Way(
        f'KernelDNA, rank {RANK}, taught', 0, rank=RANK, taught=True
    ),
    **_sized(15),
    **_sized(40),
    'planned25_taught': Way(
        'KernelDNA, -25 %, planned, taught', by='planned', taught=True
    ),
    'planned40_taught': Way(
        'KernelDNA, -40 %, planned, taught', 40, 'planned', taught=True
    ),
    'plain_taught': Way('plain, taught', 0, taught=True),
    'averaged25_taught': Way(
        'KernelDNA, -25 %, parent averaged, taught', averaged=True, taught=True
    ),
    'estimated25_taught': Way(
        'KernelDNA, -25 %, norms first, taught', estimated=True, taught=True
    ),
    'rank_averaged_taught': Way(
        f'KernelDNA, rank {RANK}, parent averaged, taught',
        0,
        rank=RANK,
        averaged=True,
        taught=True,
    ),
}
"""In the order in which they run."""


def planned(plain: ResNet, base: Base, size: int, some: cifar.Split) -> Any:
    """The settings that the loss on some images chooses, for a size."""
    net = copy.deepcopy(plain)
    ours = parameters(mmkdna.convert(net, **base.sizes[size]))
    return mmkdna.plan(
        plain,
        [*zip(some.pixels.split(128), some.labels.split(128), strict=True)],
        lambda net, batch: F.cross_entropy(
            net(cifar.normalised(batch[0])), batch[1]
        ),
        # Not one layer more for a few parameters of an adapter.
        budget=(ours / parameters(plain) - 1) * 0.99,
        **ALL,
    ).conv_cfg


@torch.no_grad()
def start(
    plain: ResNet, way: Way, base: Base, some: cifar.Split | None = None
) -> nn.Module:
    """What a way makes of a trained plain network, which stays as it is.

    Args:
        some: Training images, for a plan.
    """
    net: nn.Module = copy.deepcopy(plain)
    if way.by == 'planned':
        assert some is not None
        return mmkdna.convert(net, **planned(plain, base, way.size, some))
    if way.by != 'sharing':
        ours = mmkdna.convert(net, **base.sizes[way.size])
        _, build, degrees = CONTROLS[way.by]
        degree = networks.nearest_degree(
            lambda degree: parameters(build(plain, degree)),
            degrees,
            parameters(ours),
        )
        return build(plain, degree)
    if not (way.size or way.rank):
        return net
    mmkdna.convert(net, **(ALL if way.rank else base.sizes[way.size]))
    for family in mmkdna.list_families(net):
        parent: Any = family.parent.module
        if way.averaged:
            own = [
                plain.get_submodule(name).weight for name, _ in family.members
            ]
            parent.weight.copy_(torch.stack(own).mean(0))
        for name, child in family.children:
            if way.rank:
                low = networks.LowRank(child.kernel_shape, way.rank)
                rest = plain.get_submodule(name).weight - parent.weight
                up, down = networks.cut(rest.flatten(1), way.rank)
                low.up.copy_(up)
                low.down.copy_(down)
                child.adapter.static = low
    return net


@torch.no_grad()
def estimate(net: nn.Module, images: cifar.Split) -> None:
    """BatchNorm's statistics of some batches, without augmentation."""
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    usual = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    net.train()
    for pixels in images.pixels.split(128)[:BATCHES]:
        net(cifar.normalised(pixels))
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum


def taught(teacher: ResNet, recipe: Recipe) -> cifar.Criterion:
    """The recipe's loss, and the distance from a teacher.

    Of the logits by their divergence, of each stage's map by its mean square,
    relative to the teacher's.
    """
    teacher.eval()

    def loss(net: Any, x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            theirs = teacher.features(x)
            right = teacher.classify(theirs[-1]) / TEMPERATURE
        ours = net.features(x)
        logits = net.classify(ours[-1])
        total = F.cross_entropy(logits, y, label_smoothing=recipe.smoothing)
        total = total + TEMPERATURE**2 * F.kl_div(
            F.log_softmax(logits / TEMPERATURE, 1),
            F.softmax(right, 1),
            reduction='batchmean',
        )
        for a, b in zip(ours, theirs, strict=True):
            total = total + F.mse_loss(a, b) / b.square().mean()
        return total

    return loss


def train(
    name: str,
    seed: int,
    recipe: Recipe,
    there: results.Results,
    images: Callable[[str], cifar.Split],
    plain: ResNet,
    base: Base,
) -> dict[str, Any]:
    """One run: what it started at, what it reached, and what it cost."""
    way, criterion = WAYS[name], None
    if way.taught:
        there.need('plain', seed)
        teacher = copy.deepcopy(plain)
        path = there.folder / f'plain-{seed}.safetensors'
        if not path.exists():
            raise BadInput(
                f'its teacher {path} is not there; remove plain-{seed}.json '
                f'and train it again: --only plain --seeds {seed}'
            )
        teacher.load_state_dict(read_weights(str(path)))
        criterion = taught(teacher, recipe)
    torch.manual_seed(seed)
    some = cifar.Split(*(part[:PLANNED] for part in images('train')))
    net = start(plain, way, base, some)
    if way.estimated:
        estimate(net, images('train'))
    if way.by == 'narrowed':
        recipe = replace(recipe, **FROM_SCRATCH)
    first = cifar.accuracy(net, images('test'))
    seconds = cifar.train(
        net, images('train'), recipe, seed, criterion=criterion
    )
    if name == 'plain':
        path = there.folder / f'plain-{seed}.safetensors'
        write_weights(net.state_dict(), str(path), {})
    return dict(
        start=first,
        accuracy=cifar.accuracy(net, images('test')),
        **results.size_of(net),
        seconds=round(seconds, 1),
        steps=recipe.steps,
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = results.parser(__doc__, WAYS, OUT, epochs=5)
    parser.add_argument('base', choices=BASES)
    parser.add_argument('--weights', type=Path, help='of resnet18')
    args = parser.parse_args(argv)
    results.set_up(args)
    recipe = Recipe(epochs=args.epochs, lr=0.05, images=args.images)
    folder = args.out / args.base
    there = results.Results(folder, {'base': args.base, **asdict(recipe)})
    base = BASES[args.base]
    plain = base.build()
    if not args.show:
        weights = args.weights or args.data / 'resnet20_cifar10.safetensors'
        plain.load_state_dict(read_weights(str(weights)))
    cells = [(name, seed) for seed in args.seeds for name in WAYS]
    images = cifar.reader(args.data, args.images)
    titles = {name: way.title for name, way in WAYS.items()}
    results.carry_out(
        args,
        there,
        cells,
        lambda *cell: train(*cell, recipe, there, images, plain, base),
        titles,
    )


if __name__ == '__main__':
    exit_on_bad_input(main)
