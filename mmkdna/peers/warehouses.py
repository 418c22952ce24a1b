"""Which convs share a warehouse, and the moment when they start to.

The rule of KernelWarehouse (arXiv 2406.07879, section 3.2 and its public
networks): a warehouse for each stage; the first conv of a stage and the
shortcut, which read what the stage before wrote, belong to that stage's. The
first stage has none before it: there they stay plain where they are 1 x 1.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import nn

from ..families.sites import is_stage, walk
from .base import DynamicConv2d
from .kernel_warehouse import KernelWarehouseConv2d, assignments

SHORTCUT = 'downsample'
"""What every ResNet calls the conv of a block's shortcut."""


class _Place(NamedTuple):
    """A conv and where it is."""

    name: str
    conv: KernelWarehouseConv2d
    stage: str
    """The innermost sequence with two or more such convs, or itself."""
    reads_stage_before: bool


def form_dynamic(model: nn.Module) -> None:
    """Do what the other dynamic convolutions need of a complete model.

    Args:
        model: Changed in place; a second time changes nothing.
    """
    if not any(isinstance(m, DynamicConv2d) for m in model.modules()):
        return
    for name in _plain_shortcuts(model):
        _make_ordinary(model, name)
    form_warehouses(model)


def form_warehouses(model: nn.Module) -> None:
    """Give the KernelWarehouse convs of each stage one warehouse."""
    places = list(_places(model))
    stages = list(dict.fromkeys(place.stage for place in places))
    members: dict[tuple, list[KernelWarehouseConv2d]] = {}
    for place in places:
        conv, stage = place.conv, place.stage
        if place.reads_stage_before:
            before = _stage_before(stage, stages)
            if before is None and max(conv.kernel_size) == 1:
                _make_ordinary(model, place.name)
                continue
            stage = before or stage
        settings = conv.budget, conv.reduction, conv.norm
        members.setdefault((stage, settings), []).append(conv)
    for convs in members.values():
        _share(convs)


def _plain_shortcuts(model: nn.Module) -> list[str]:
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, DynamicConv2d)
        and not module.in_shortcuts
        and SHORTCUT in name.split('.')
    ]


def _make_ordinary(model: nn.Module, name: str) -> None:
    conv = model.get_submodule(name)
    assert isinstance(conv, DynamicConv2d)
    path, _, last = name.rpartition('.')
    setattr(model.get_submodule(path), last, conv.ordinary())


def _places(model: nn.Module) -> Iterator[_Place]:
    found = [
        (name, module, around)
        for name, module, around in walk(model)
        if isinstance(module, KernelWarehouseConv2d) and module.owner is None
    ]
    held: dict[str, int] = {}
    for _, _, around in found:
        for outer, _ in around:
            held[outer] = held.get(outer, 0) + 1
    begun: set[str] = set()
    for name, conv, around in found:
        stage = next(
            (
                (outer, parent)
                for outer, parent in around
                if is_stage(parent) and held[outer] > 1
            ),
            None,
        )
        if stage is None:
            yield _Place(name, conv, name, False)
            continue
        outer, parent = stage
        prefix = f'{outer}.' if outer else ''
        block, *inside = name.removeprefix(prefix).split('.')
        reads_stage_before = (
            block == next(iter(parent._modules))
            and held.get(prefix + block, 0) > 1
            and (outer not in begun or SHORTCUT in inside)
        )
        begun.add(outer)
        yield _Place(name, conv, outer, reads_stage_before)


def _stage_before(stage: str, stages: Sequence[str]) -> str | None:
    """The stage before it in the same network, if there is one."""
    index = stages.index(stage)
    before = stages[index - 1] if index else None
    if before is None or before.rpartition('.')[0] != stage.rpartition('.')[0]:
        return None
    return before


def _share(convs: list[KernelWarehouseConv2d]) -> None:
    """Form one warehouse, held by the first of the convs.

    It is frozen with any of them: what a frozen stage computes stays.
    """
    out_channels = math.gcd(*(conv.kernel_shape[0] for conv in convs))
    in_channels = math.gcd(*(conv.kernel_shape[1] for conv in convs))
    cut = [conv.cut(out_channels, in_channels) for conv in convs]
    budget = convs[0].budget
    starts, used = [], 0
    for cells in cut:
        start = assignments(len(cells), budget)
        starts.append(torch.where(start < 0, start, start + used))
        chosen = int((start >= 0).sum())
        used += chosen * max(int(budget), 1)
    count = max(int(sum(map(len, cut)) * budget), 1)
    owner = convs[0]
    cells = torch.cat(cut)
    if budget != 1:
        cells = cells.new_empty(count, *cells.shape[1:])
        nn.init.kaiming_normal_(cells, mode='fan_out')
    trained = all(
        conv.weight is not None and conv.weight.requires_grad for conv in convs
    )
    owner.cells = nn.Parameter(cells, requires_grad=trained)
    for conv, start in zip(convs, starts, strict=True):
        none = (start < 0) | (start >= count)
        conv.join(owner, torch.where(none, count, start), count)
