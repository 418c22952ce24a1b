"""What a ``conv_cfg=dict(type='KernelDNA', ...)`` says, as data."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Protocol

from .norm import NORMS

PARENTS = ('last', 'first')
GATES = ('identity', 'sigmoid')


class ConvGeometry(Protocol):
    """The attributes that :class:`torch.nn.Conv2d` and ours have in common."""

    @property
    def in_channels(self) -> int: ...
    @property
    def out_channels(self) -> int: ...
    @property
    def kernel_size(self) -> tuple[int, ...]: ...
    @property
    def stride(self) -> tuple[int, ...]: ...
    @property
    def groups(self) -> int: ...


@dataclass(frozen=True)
class Policy:
    """Which convolutions form families, and what adapter a child gets.

    Two equal policies are the same policy; it is hashable, and every conv
    that a ``conv_cfg`` built carries it.

    Args:
        family_size: Members of a family: a number for all families, a
            sequence with the size of each family of a container in order of
            depth, or None for one family per container.
        parent: Which member owns the kernel, ``'last'`` or ``'first'`` in
            order of depth (of the list, where ``families`` is given).
        min_channels: Only convs with ``min(C_in / groups, C_out)`` of at
            least this much are shared.
        kernel_sizes: Only ``k x k`` convs with k in this sequence are shared;
            None stands for every kernel larger than 1 x 1.
        reduction: The routing squeezes ``C_in`` to ``C_in // reduction``.
        norm: Norm of the routing: ``'LN'``, ``'BN'`` (the authors') or None.
        gate: ``'identity'`` is ``2 * sigmoid(z)`` with z = 0 at the start,
            so exactly 1; ``'sigmoid'`` is the authors'.
        families: Names of the members of each family, relative to the module
            that got the ``conv_cfg``. Overrides the rule that the first four
            arguments make.
        align: Whether plain weights that load are put in an order of their
            blocks' hidden channels in which children fit their parents
            better; the network computes the same in any order.
        cache_kernels: Whether a child in evaluation on a CPU keeps its kernel
            between two forwards, which takes the memory of that kernel.

    Raises:
        ValueError: If an argument is out of its type or range.
    """

    family_size: int | tuple[int, ...] | None = 2
    parent: str = 'last'
    min_channels: int = 256
    kernel_sizes: tuple[int, ...] | None = None
    reduction: int = 4
    norm: str | None = 'LN'
    gate: str = 'identity'
    families: tuple[tuple[str, ...], ...] | None = None
    align: bool = True
    cache_kernels: bool = True

    def __post_init__(self) -> None:
        for name in ('family_size', 'kernel_sizes', 'families'):
            object.__setattr__(self, name, _as_tuples(getattr(self, name)))
        self._check_family_size()
        for name, choices in (
            ('parent', PARENTS),
            ('norm', NORMS),
            ('gate', GATES),
        ):
            value = getattr(self, name)
            if value not in choices:
                raise _bad(
                    name,
                    value,
                    'one of ' + ', '.join(repr(c) for c in choices),
                )
        for name in ('min_channels', 'reduction'):
            if not is_int(getattr(self, name), 1):
                raise _bad(name, getattr(self, name), 'an int of at least 1')
        if self.kernel_sizes is not None and not (
            isinstance(self.kernel_sizes, tuple)
            and self.kernel_sizes
            and all(is_int(k, 1) for k in self.kernel_sizes)
        ):
            raise _bad(
                'kernel_sizes',
                self.kernel_sizes,
                'None or a list of ints of at least 1, such as [3]',
            )
        for name in ('align', 'cache_kernels'):
            if not isinstance(getattr(self, name), bool):
                raise _bad(name, getattr(self, name), 'True or False')
        if self.families is not None:
            self._check_families(self.families)

    def _check_family_size(self) -> None:
        size = self.family_size
        sizes = size if isinstance(size, tuple) else (size,)
        if size is not None and not (
            sizes and all(is_int(n, 2) for n in sizes)
        ):
            raise _bad(
                'family_size',
                size,
                'an int of at least 2, a list of them, or None for one '
                'family per container',
            )

    @staticmethod
    def _check_families(families: Any) -> None:
        if not (
            isinstance(families, tuple)
            and families
            and all(
                isinstance(family, tuple)
                and all(isinstance(name, str) for name in family)
                for family in families
            )
        ):
            raise _bad(
                'families',
                families,
                'a list of lists of layer names, such as '
                "[['layer4.1.conv2', 'layer4.2.conv2']]",
            )
        names: set[str] = set()
        for family in families:
            if len(family) < 2:
                raise _bad(
                    'families', family, 'at least two names in each family'
                )
            for name in family:
                if name in names:
                    raise _bad(
                        'families',
                        name,
                        'each layer at most once; it is listed twice',
                    )
                names.add(name)

    @classmethod
    def from_conv_cfg(cls, conv_cfg: Mapping[str, Any]) -> 'Policy':
        """Read a ``conv_cfg`` without its ``type``.

        Raises:
            ValueError: If an argument is unknown or out of its range.
        """
        known = [field.name for field in fields(cls)]
        for name in conv_cfg:
            if name not in known:
                near = difflib.get_close_matches(str(name), known, 1)
                hint = f'; did you mean {near[0]}?' if near else ''
                raise _bad(
                    name,
                    conv_cfg[name],
                    'no such argument; there are ' + ', '.join(known) + hint,
                )
        return cls(**conv_cfg)

    @staticmethod
    def channels(conv: ConvGeometry) -> int:
        """``min(C_in / groups, C_out)``; 1 for a depthwise conv."""
        return min(conv.in_channels // conv.groups, conv.out_channels)

    def obstacles(self, conv: ConvGeometry) -> list[str]:
        """Why the rule leaves a conv out; empty if it is eligible."""
        found = []
        if any(step != 1 for step in conv.stride):
            found.append('stride ' + 'x'.join(map(str, conv.stride)))
        kernel = 'x'.join(map(str, conv.kernel_size))
        if self.kernel_sizes is None:
            if max(conv.kernel_size) == 1:
                found.append(f'kernel {kernel}, kernel_sizes default to k > 1')
        elif conv.kernel_size not in [(k, k) for k in self.kernel_sizes]:
            found.append(
                f'kernel {kernel} not in kernel_sizes='
                f'{list(self.kernel_sizes)}'
            )
        channels = self.channels(conv)
        if channels < self.min_channels:
            found.append(
                f'{channels} channels, min_channels={self.min_channels}'
            )
        return found

    def __str__(self) -> str:
        """The arguments that differ from the defaults, as in a config."""
        changed = [
            f'{field.name}={getattr(self, field.name)!r}'
            for field in fields(self)
            if getattr(self, field.name) != field.default
        ]
        return 'dict(' + ', '.join(["type='KernelDNA'", *changed]) + ')'


def _bad(name: str, value: object, expected: str) -> ValueError:
    return ValueError(
        f'conv_cfg of KernelDNA: {name}={value!r}: expected {expected}'
    )


def is_int(value: object, least: int) -> bool:
    return (
        isinstance(value, int)
        and not isinstance(value, bool)
        and value >= least
    )


def _as_tuples(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return tuple(_as_tuples(item) for item in value)
    return value
