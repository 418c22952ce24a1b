"""The networks of the experiments on CIFAR-10, and their controls.

Each changes a plain network in place and returns it.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mmkdna
from mmkdna.errors import BadInput
from mmkdna.families import Family
from mmkdna.layers import StaticModulation
from mmkdna.layers.adapter import modulate


def conv(inputs: int, outputs: int, size: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)


class Block(nn.Module):
    """A basic block.

    Args:
        pad: Where the width grows, the shortcut pads with zeros; else it is a
            convolution, ``downsample``.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, pad: bool):
        super().__init__()
        self.conv1 = conv(inputs, outputs, 3, stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = conv(outputs, outputs, 3, 1)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.zeros = stride, outputs - inputs
        self.downsample: nn.Module | None = None
        if (inputs, stride) != (outputs, 1) and not pad:
            self.downsample = nn.Sequential(
                conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y))
        if self.downsample is not None:
            x = self.downsample(x)
        elif self.stride > 1:
            x = x[..., :: self.stride, :: self.stride]
            before = self.zeros // 2
            x = F.pad(x, (0, 0, 0, 0, before, self.zeros - before))
        return (x + y).relu()


class ResNet(nn.Module):
    """For images of 32 x 32 pixels and ten classes.

    Args:
        blocks: Of each stage, whose width is twice that of the one before.
        width: Of the first stage.
        stride: Of the stem.
        pad: As of :class:`Block`.
    """

    def __init__(
        self,
        blocks: tuple[int, ...] = (2, 2, 2, 2),
        width: int = 16,
        stride: int = 2,
        pad: bool = False,
    ):
        super().__init__()
        self.arguments: dict[str, Any] = dict(
            blocks=blocks, stride=stride, pad=pad
        )
        self.conv1 = conv(3, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.stages = [f'layer{i + 1}' for i in range(len(blocks))]
        before = width
        for i, (name, count) in enumerate(
            zip(self.stages, blocks, strict=True)
        ):
            after = width << i
            first = Block(before, after, 1 if i == 0 else 2, pad)
            rest = (Block(after, after, 1, pad) for _ in range(count - 1))
            self.add_module(name, nn.Sequential(first, *rest))
            before = after
        self.linear = nn.Linear(before, 10)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode='fan_out')

    def features(self, x: Tensor) -> list[Tensor]:
        """The map that each stage puts out."""
        maps = [self.bn1(self.conv1(x)).relu()]
        for name in self.stages:
            maps.append(self.get_submodule(name)(maps[-1]))
        return maps[1:]

    def classify(self, last: Tensor) -> Tensor:
        logits: Tensor = self.linear(last.mean((2, 3)))
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """From ``(N, 3, 32, 32)`` to ``(N, 10)``."""
        return self.classify(self.features(x)[-1])


def resnet20(width: int = 16) -> ResNet:
    """The one whose trained weights are resnet20_cifar10.safetensors."""
    return ResNet((3, 3, 3), width, stride=1, pad=True)


def would_be(net: nn.Module, **settings: object) -> list[Family]:
    """The families that these settings make of a network, in a copy of it."""
    families = mmkdna.list_families(
        mmkdna.convert(copy.deepcopy(net), **settings)
    )
    return families


def _gate(conv: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    (x,) = inputs
    routing: nn.Module = conv.routing  # type: ignore[assignment]
    return x * routing(x.mean((2, 3)))[..., None, None]


def gates_alone(net: nn.Module, **settings: object) -> nn.Module:
    """Gates before those that would be children; kernels of their own."""
    for family in would_be(net, **settings):
        for name, child in family.children:
            layer = net.get_submodule(name)
            layer.routing = copy.deepcopy(child.adapter.routing)
            layer.register_forward_pre_hook(_gate)
    return net


def tied(net: nn.Module, **settings: object) -> nn.Module:
    """Those that would be children use their parent's kernel as it is."""
    for family in would_be(net, **settings):
        parent = net.get_submodule(family.parent.name)
        for name, _ in family.children:
            net.get_submodule(name).weight = parent.weight
    return net


def _low_rank(
    kernel: Tensor,
    filter: Tensor,
    spatial: Tensor,
    up: Tensor,
    down: Tensor,
) -> Tensor:
    own = (up @ down).view(kernel.shape)
    return modulate(kernel, filter, spatial) + own


class LowRank(StaticModulation):
    """On trial: ``W_c = W_p (1 + s) (1 + f) + B A``, B zero at the start.

    Args:
        kernel_shape: ``(C_out, C_in / groups, kh, kw)``, larger than 1 x 1.
        rank: Of B A.
    """

    derive = staticmethod(_low_rank)

    def __init__(self, kernel_shape: tuple[int, ...], rank: int):
        super().__init__(kernel_shape)
        outputs, inputs, height, width = kernel_shape
        columns = inputs * height * width
        self.up = nn.Parameter(torch.zeros(outputs, rank))
        self.down = nn.Parameter(torch.empty(rank, columns))
        nn.init.normal_(self.down, std=columns**-0.5)

    def sources(self) -> tuple[Tensor, ...]:
        return (*super().sources(), self.up, self.down)


def with_rank(net: nn.Module, rank: int) -> nn.Module:
    """Give the children of a network a low-rank part at its start, zero."""
    for family in mmkdna.list_families(net):
        for _, child in family.children:
            child.adapter.static = LowRank(child.kernel_shape, rank)
    return net


def cut(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The product of this rank that is nearest to a matrix."""
    up, values, down = torch.linalg.svd(matrix, full_matrices=False)
    root = values[:rank].sqrt()
    return up[:, :rank] * root, down[:rank] * root[:, None]


def nearest_degree(
    count: Callable[[int], int], degrees: Sequence[int], target: int
) -> int:
    """The degree whose number of parameters is nearest to a target.

    Args:
        count: The parameters at a degree; they rise or fall with it.
        degrees: To choose from, in order.
    """
    low, high = 0, len(degrees) - 1
    counts = {i: count(degrees[i]) for i in (low, high)}
    rising = counts[high] > counts[low]
    while high - low > 1:
        middle = (low + high) // 2
        counts[middle] = count(degrees[middle])
        if (counts[middle] < target) == rising:
            low = middle
        else:
            high = middle
    return degrees[min((low, high), key=lambda i: abs(counts[i] - target))]


@torch.no_grad()
def low_rank(net: ResNet, percent: int) -> nn.Module:
    """A copy whose last two stages have kernels of a low rank.

    Each kernel becomes a convolution to so many percent of its channels, and
    one of 1 x 1, by its SVD.
    """
    net = copy.deepcopy(net)
    for block in (b for s in net.stages[-2:] for b in net.get_submodule(s)):
        for name in ('conv1', 'conv2'):
            whole = getattr(block, name)
            outputs, inputs, size, _ = whole.weight.shape
            rank = max(round(outputs * percent / 100), 1)
            to = conv(inputs, rank, size, whole.stride[0])
            back = conv(rank, outputs, 1, 1)
            up, down = cut(whole.weight.flatten(1), rank)
            to.weight.copy_(down.view_as(to.weight))
            back.weight.copy_(up.view_as(back.weight))
            setattr(block, name, nn.Sequential(to, back))
    return net


def narrowed(net: ResNet, width: int) -> nn.Module:
    """A new one of another width; nothing of the kernels is kept."""
    return ResNet(width=width, **net.arguments)


@torch.enable_grad()
def pruned(net: ResNet, percent: int) -> nn.Module:
    """A copy with so much less of the channels inside each block.

    By torch-pruning, the least norms first; what a block puts out keeps its
    channels, since resnet20's shortcuts cannot lose any.
    """
    try:
        import torch_pruning
    except ImportError as error:
        raise BadInput(
            'pruned needs torch-pruning: pip install torch-pruning'
        ) from error
    net = copy.deepcopy(net)
    inner = {
        block.conv1 for block in net.modules() if isinstance(block, Block)
    }
    outer = [
        m
        for m in net.modules()
        if isinstance(m, (nn.Conv2d, nn.Linear)) and m not in inner
    ]
    torch_pruning.pruner.BasePruner(
        net,
        torch.zeros(1, 3, 32, 32),
        importance=torch_pruning.importance.GroupMagnitudeImportance(),
        pruning_ratio=percent / 100,
        ignored_layers=outer,
    ).step()
    return net


def orthogonality(net: nn.Module) -> Tensor:
    """How far the filters of the parents are from orthogonal, mean square.

    Of the filters scaled to length 1: BatchNorm takes the length away.
    """
    parts = []
    for family in mmkdna.list_families(net):
        rows = F.normalize(family.parent.module.weight.flatten(1))
        off = rows @ rows.T - torch.eye(len(rows))
        parts.append(off.square().sum() / len(rows))
    return torch.stack(parts).mean()
