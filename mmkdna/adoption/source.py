"""The layers of a checkpoint, and what a layer of the model gets from them.

A layer of the checkpoint has its own kernel. Or it is a child, whose kernel
is its parent's times a modulation; plain networks have no children.
"""

import copy
import re
from collections.abc import Container, Mapping, MutableMapping
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import BadInput, check
from ..layers import KernelDNALayer, StaticModulation

STATIC, ROUTING = 'adapter.static.', 'adapter.routing.'
CHILD = f'{STATIC}filter'
_ENTRY = re.compile(
    # A lazy name: an adapter's norm has a weight, too.
    r'(?:(.*?)\.)??(weight|residual|fade'
    r'|adapter\.(?:static|routing)\.(?:norm\.)?\w+)'
)


class Source:
    """The layers of a checkpoint.

    Args:
        state: The checkpoint; :meth:`put` and :meth:`drop` change it.
        prefix: The prefix that the loaded module has in the checkpoint.
        noted: The parent of each child, if the checkpoint stores families.
            If None, the checkpoint is taken to have the model's families.
        ours: The parent of each child of the model, ``''`` if outside of it.
        here: Names of the model's layers.
        gates: The gate of each child, if the checkpoint stores them; a layer
            that is not named has ``'identity'``.

    Raises:
        BadInput: If ``noted`` is None and a layer has another role.
    """

    def __init__(
        self,
        state: MutableMapping[str, Tensor],
        prefix: str,
        noted: Mapping[str, str] | None,
        ours: Mapping[str, str],
        here: Container[str],
        gates: Mapping[str, str],
    ):
        self.state, self.prefix, self.ours = state, prefix, ours
        self.gates = gates
        self.layers: dict[str, dict[str, Tensor]] = {}
        for key in state:
            inside = key.startswith(prefix)
            entry = inside and _ENTRY.fullmatch(key, len(prefix))
            if entry:
                of_layer = self.layers.setdefault(entry[1] or '', {})
                of_layer[entry[2]] = state[key]
        children = [
            n for n, entries in self.layers.items() if CHILD in entries
        ]
        self.parents = dict.fromkeys(children, '')
        if noted is None:
            other = [n for n in children if n in here and n not in ours]
            plain = [n for n in ours if self.weight(n) is not None]
            if children and (other or plain):
                raise self.refusal([*other, *plain])
            noted = ours
        self.parents = {name: noted.get(name, '') for name in children}

    def key(self, name: str, entry: str) -> str:
        """A key of the checkpoint; ``''`` names the loaded module itself."""
        return f'{self.prefix}{name}.{entry}' if name else self.prefix + entry

    def drop(self, name: str, entry: str) -> str:
        """Drop an entry of a layer, and return its key."""
        key = self.key(name, entry)
        del self.layers[name][entry], self.state[key]
        return key

    def put(self, name: str, entries: dict[str, Tensor]) -> None:
        """Replace all entries of a layer."""
        for entry in [*self.layers.get(name, {})]:
            self.drop(name, entry)
        self.layers[name] = entries
        for entry, value in entries.items():
            self.state[self.key(name, entry)] = value

    def weight(self, name: str) -> Tensor | None:
        """The weight of a layer; None if it has none."""
        return self.layers.get(name, {}).get('weight')

    def kernel(self, name: str) -> Tensor | None:
        """The kernel of a layer; None if the checkpoint lacks it.

        Raises:
            BadInput: If the layer has entries of both roles, or a child
                lacks a part of its modulation or has another shape of it.
        """
        is_child = name in self.parents
        owner = self.parents[name] if is_child else name
        # A parent without a name is outside of the checkpoint.
        kernel = self.weight(owner) if owner or not is_child else None
        if kernel is None or kernel.dim() < 2:
            return None
        found, wanted = self.layers[name], {'weight': kernel}
        if is_child:
            found = {k: v for k, v in found.items() if ROUTING not in k}
            with torch.device('meta'):
                wanted = StaticModulation(kernel.shape).state_dict(
                    prefix=STATIC
                )
        shapes, expected = map(_shapes, (found, wanted))
        what = f'entries of {name} in the checkpoint'
        check(what, shapes, shapes == expected, str(expected))
        return derive(kernel, self.static(name))

    def static(self, name: str) -> dict[str, Tensor]:
        """A child's modulation; empty for a layer with its own kernel."""
        if name not in self.parents:
            return {}
        return below(self.layers[name], STATIC)

    def is_open(self, name: str, layer: nn.Module) -> bool:
        """Whether a child's gate is exactly 1 for every input."""
        settings = getattr(layer, 'kernel_dna', None)
        here = getattr(settings, 'gate', 'identity')
        gate = below(self.layers[name], ROUTING)
        last = gate.keys() & {'excite', 'bias', 'excite_bias'}
        moved = len(last) != 2 or any(gate[key].any() for key in last)
        return self.gates.get(name, here) == 'identity' and not moved

    def adapter(
        self, name: str, child: KernelDNALayer, parent: str, kernel: Tensor
    ) -> dict[str, Tensor]:
        """The adapter for a layer that is a child of ``parent`` here.

        ``kernel`` is the one that it has in the checkpoint.
        """
        entries = _at_start(child, kernel)
        if name in self.parents:
            learned = self.layers[name].items()
            entries = {k: v for k, v in entries.items() if ROUTING not in k}
            entries |= {k: v for k, v in learned if ROUTING in k}
        own, its = self.static(name), self.static(parent)
        if self.parents.get(name, name) == self.parents.get(parent, parent):
            # Both kernels come from one, so their ratio is a modulation.
            for key in own | its:
                own_factor, its_factor = (
                    1 + static.get(key, kernel.new_zeros(1)).float()
                    for static in (own, its)
                )
                ratio = own_factor / its_factor - 1
                ratio = torch.where(ratio.isfinite(), ratio, 0)
                entries[STATIC + key] = ratio.to(kernel)
        return entries

    def refusal(self, names: list[str]) -> BadInput:
        """The error for layers whose weights have no place in the model."""
        rows = [('layer', 'in the checkpoint', 'in this model')]
        for name in dict.fromkeys([*names, *self.parents, *self.ours]):
            roles = _role(self.parents, name), _role(self.ours, name)
            rows.append((name, *roles))
        width = max(len(cell) for row in rows for cell in row) + 2
        lines = (''.join(cell.ljust(width) for cell in row) for row in rows)
        table = '\n'.join(map(str.rstrip, lines))
        return BadInput(
            'the checkpoint has other families than this model, and its '
            f'weights of {", ".join(dict.fromkeys(names))} do not fit. '
            "Build the model with the checkpoint's conv_cfg "
            '(families=[[...]] lists them), or train again from plain '
            f'weights.\n{table}'
        )


def _shapes(entries: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in entries.items()}


def _role(parents: Mapping[str, str], name: str) -> str:
    if name in parents:
        return f'child of {parents[name]}'.removesuffix(' of ')
    return 'parent' if name in parents.values() else 'plain'


def _at_start(child: KernelDNALayer, kernel: Tensor) -> dict[str, Tensor]:
    """A new adapter for a child, in the dtype of this kernel.

    Random parameters keep their values, equal in all processes of a job.
    """
    start: Any = copy.deepcopy(child.adapter)
    if start.static.filter.is_meta:
        start.to_empty(device=kernel.device).reset_parameters()
    start.static.reset_parameters()
    if start.routing.identity_gate:
        nn.init.zeros_(start.routing.excite)
        nn.init.zeros_(start.routing.bias)
    entries: dict[str, Tensor] = start.to(kernel).state_dict(prefix='adapter.')
    return entries


def below(entries: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries with this prefix, which is removed."""
    return {
        key.removeprefix(prefix): value
        for key, value in entries.items()
        if key.startswith(prefix)
    }


def derive(
    kernel: Tensor | None, static: Mapping[str, Tensor]
) -> Tensor | None:
    """A child's kernel from its parent's and from its modulation."""
    if kernel is None or not static:
        return kernel
    return StaticModulation.derive(kernel, **static)
