"""A trained plain network becomes smaller, by KernelDNA and by other ways.

Each way starts from the weights of one plain network and trains for five
epochs. The controls: plain, fine-tuned as long; and each kernel that would be
a child's cut to a low rank by its SVD, without a parent. Ways that end in
_taught learn from plain as fine-tuned with the same seed, which has to be
there.

    python experiments/adoption.py resnet20 --data DIR
    python experiments/adoption.py resnet18 --data DIR --weights FILE

resnet20 are the weights DIR/resnet20_cifar10.safetensors; resnet18 those of
from_scratch.py, plain-0.safetensors in its folder of results. It resumes: a
run whose result is there is not run again.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict
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
from mmkdna.checkpoint import read_weights
from mmkdna.cli import exit_on_bad_input

OUT = Path(__file__).with_suffix('')
SETTINGS = dict(min_channels=32)
BASES = {'resnet20': networks.resnet20, 'resnet18': ResNet}
TEMPERATURE, BATCHES = 2.0, 100


class Way(NamedTuple):
    """How a plain network becomes a smaller one.

    Args:
        shared: Whether children derive their kernels from a parent's.
        rank: Of a child's low-rank part, by SVD of what is left; 0 is none.
        averaged: Whether a parent starts as the mean of its family.
        estimated: Whether BatchNorm sees images before the training.
        taught: Whether plain teaches logits and features.
    """

    title: str
    shared: bool = True
    rank: int = 0
    averaged: bool = False
    estimated: bool = False
    taught: bool = False


WAYS = {
    'plain': Way('plain, fine-tuned as long', shared=False),
    'shared': Way('KernelDNA'),
    'rank10': Way('KernelDNA, rank 10', rank=10),
    'alone': Way('rank 16, no parent', shared=False, rank=16),
    'rank16': Way('KernelDNA, rank 16', rank=16),
    'rank24': Way('KernelDNA, rank 24', rank=24),
    'alone_taught': Way('rank 16, no parent, taught', False, 16, taught=True),
    'rank16_taught': Way('KernelDNA, rank 16, taught', rank=16, taught=True),
    'shared_taught': Way('KernelDNA, taught', taught=True),
    'plain_taught': Way('plain, taught', shared=False, taught=True),
    'rank16_averaged': Way('rank 16, parent averaged', rank=16, averaged=True),
    'rank16_estimated': Way('rank 16, norms first', rank=16, estimated=True),
    'shared_averaged': Way('KernelDNA, parent averaged', averaged=True),
    'shared_estimated': Way('KernelDNA, norms first', estimated=True),
}


def cut(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The product of this rank that is nearest to a matrix."""
    up, values, down = torch.linalg.svd(matrix, full_matrices=False)
    root = values[:rank].sqrt()
    return up[:, :rank] * root, down[:rank] * root[:, None]


class Alone(networks.LowRank):
    """``W_c = B A``, whatever the parent's kernel is."""

    @staticmethod
    def derive(kernel: Tensor, *sources: Tensor) -> Tensor:
        up, down = sources[-2:]
        # The parent's kernel gets a gradient, of zero.
        return (up @ down).view(kernel.shape) + 0 * kernel


@torch.no_grad()
def start(net: nn.Module, way: Way) -> nn.Module:
    """Make a trained plain network what a way has, in place."""
    if not (way.shared or way.rank):
        return net
    kernels = {
        name: layer.weight.clone()
        for name, layer in net.named_modules()
        if isinstance(layer, nn.Conv2d)
    }
    mmkdna.convert(net, **SETTINGS)
    for family in mmkdna.list_families(net):
        parent: Any = family.parent.module
        if way.averaged:
            own = [kernels[name] for name, _ in family.members]
            parent.weight.copy_(torch.stack(own).mean(0))
        for name, child in family.children:
            if way.rank:
                kind = networks.LowRank if way.shared else Alone
                low = kind(child.kernel_shape, way.rank)
                rest = kernels[name]
                if way.shared:
                    rest = rest - parent.weight
                up, down = cut(rest.flatten(1), way.rank)
                low.up.copy_(up)
                low.down.copy_(down)
                if not way.shared:
                    # B A has all that these two could.
                    low.filter.requires_grad_(False)
                    low.spatial.requires_grad_(False)
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
) -> dict[str, Any]:
    """One run: what it started at, what it reached, and what it cost."""
    way, criterion = WAYS[name], None
    if way.taught:
        there.need('plain', seed)
        teacher = copy.deepcopy(plain)
        path = there.folder / f'plain-{seed}.safetensors'
        teacher.load_state_dict(read_weights(str(path)))
        criterion = taught(teacher, recipe)
    torch.manual_seed(seed)
    net = start(copy.deepcopy(plain), way)
    if way.estimated:
        estimate(net, images('train'))
    first = cifar.accuracy(net, images('test'))
    seconds = cifar.train(
        net, images('train'), recipe, seed, criterion=criterion
    )
    if name == 'plain':
        results.keep_weights(net, there.folder / f'plain-{seed}.safetensors')
    size = results.size_of(net)
    size['parameters'] = sum(
        p.numel() for p in net.parameters() if p.requires_grad
    )
    return dict(
        start=first,
        accuracy=cifar.accuracy(net, images('test')),
        **size,
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
    plain = BASES[args.base]()
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
        lambda *cell: train(*cell, recipe, there, images, plain),
        titles,
    )


if __name__ == '__main__':
    exit_on_bad_input(main)
