"""The arguments of a ``conv_cfg=dict(type='KernelDNA', ...)``."""

import functools
import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from mmengine.logging import print_log

from ..errors import (
    are_ints,
    check,
    check_int,
    check_known,
    check_one_of,
    is_int,
)
from .norm import NORMS

WHAT = 'conv_cfg of KernelDNA: '
SEQUENCES = ('family_size', 'kernel_sizes', 'families')
SIZE = 'an int of at least 2, a list of them, or None for one family a stage'
SIZES = 'None or a list of ints of at least 1, such as [3]'
FAMILIES = (
    'a list of lists of two or more layer names, each name once, such as '
    "[['layer4.1.conv2', 'layer4.2.conv2']]"
)
CHOICES = {
    'parent': ('last', 'first'),
    'norm': tuple(NORMS),
    'gate': ('identity', 'sigmoid'),
}
DELETED = ('align', 'cache_kernels')
"""Arguments of earlier versions: accepted and ignored."""


@dataclass(frozen=True)
class Settings:
    """Which layers form families, and what adapter a child gets.

    A ``conv_cfg`` puts them on each layer that it builds, as the attribute
    ``kernel_dna``. Only layers with equal settings can share.

    Args:
        family_size: Members of a family: a number for all families, a
            sequence with the size of each family of a stage in order of
            depth, or None for one family in each stage.
        parent: The member that owns the kernel, ``'last'`` or ``'first'`` in
            order of depth (with ``families``: in order of the list).
        min_channels: Share only layers with ``min(C_in / groups, C_out)`` of
            at least this number.
        kernel_sizes: Share only ``k x k`` kernels with k in this sequence;
            None stands for every kernel larger than 1 x 1.
        reduction: The routing squeezes ``C_in`` to ``C_in // reduction``.
        norm: Norm of the routing: ``'LN'``, ``'BN'`` (the authors') or None.
        gate: ``'identity'`` is ``2 * sigmoid(z)`` with z = 0 at the start,
            so the gate is exactly 1; ``'sigmoid'`` is the authors'.
        families: Names of the members of each family, relative to the module
            with the settings. It replaces ``family_size``, ``min_channels``
            and ``kernel_sizes``.

    Raises:
        BadInput: If an argument has a wrong type or is out of its range.
    """

    family_size: int | tuple[int, ...] | None = 2
    parent: str = 'last'
    min_channels: int = 256
    kernel_sizes: tuple[int, ...] | None = None
    reduction: int = 4
    norm: str | None = 'LN'
    gate: str = 'identity'
    families: tuple[tuple[str, ...], ...] | None = None

    def __post_init__(self) -> None:
        for name in SEQUENCES:
            object.__setattr__(self, name, _as_tuples(getattr(self, name)))
        for name in ('min_channels', 'reduction'):
            check_int(WHAT + name, getattr(self, name), 1)
        for name, choices in CHOICES.items():
            check_one_of(WHAT + name, getattr(self, name), choices)
        size, sizes, families = map(vars(self).get, SEQUENCES)
        size_holds = size is None or is_int(size, 2) or are_ints(size, 2)
        sizes_hold = sizes is None or are_ints(sizes, 1)
        families_hold = families is None or _are_families(families)
        check(f'{WHAT}family_size', size, size_holds, SIZE)
        check(f'{WHAT}kernel_sizes', sizes, sizes_hold, SIZES)
        check(f'{WHAT}families', families, families_hold, FAMILIES)

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> 'Settings':
        """Check a ``conv_cfg`` without its ``type``.

        Raises:
            BadInput: If an argument is unknown or out of its range.
        """
        known = [field.name for field in fields(cls)]
        for name, value in arguments.items():
            if name in DELETED:
                _say_deleted(name)
            else:
                check_known(WHAT, value, name, known)
        return cls(**{k: v for k, v in arguments.items() if k in known})

    def __str__(self) -> str:
        """The arguments that differ from the defaults, as in a config."""
        values = ((f, getattr(self, f.name)) for f in fields(self))
        changed = [f'{f.name}={v!r}' for f, v in values if v != f.default]
        return 'dict(' + ', '.join(["type='KernelDNA'", *changed]) + ')'


@functools.cache
def _say_deleted(name: str) -> None:
    print_log(
        f'{WHAT}{name} is ignored. Earlier versions had it; delete it from '
        'the config.',
        'current',
        logging.WARNING,
    )


def _as_tuples(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return tuple(_as_tuples(item) for item in value)
    return value


def _are_families(value: Any) -> bool:
    if not isinstance(value, tuple) or not value:
        return False
    if not all(isinstance(f, tuple) and len(f) > 1 for f in value):
        return False
    names = [name for family in value for name in family]
    strings = all(isinstance(name, str) for name in names)
    return strings and len(names) == len(set(names))
