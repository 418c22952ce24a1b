"""What a ``conv_cfg=dict(type='KernelDNA', ...)`` says, as data."""

import difflib
import functools
import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from mmengine.logging import print_log

from ..errors import BadInput
from .norm import NORMS

PARENTS = ('last', 'first')
GATES = ('identity', 'sigmoid')
DELETED = ('align', 'cache_kernels')
"""Arguments of earlier versions: accepted and ignored."""


@dataclass(frozen=True)
class Settings:
    """Which layers form families, and what adapter a child gets.

    Equal settings are the same settings. Every layer that a ``conv_cfg``
    built carries them, as its attribute ``kernel_dna``.

    Args:
        family_size: Members of a family: a number for all families, a
            sequence with the size of each family of a stage in order of
            depth, or None for one family a stage.
        parent: Which member owns the kernel, ``'last'`` or ``'first'`` in
            order of depth (of the list, where ``families`` is given).
        min_channels: Only layers with ``min(C_in / groups, C_out)`` of at
            least this much are shared.
        kernel_sizes: Only ``k x k`` kernels with k in this sequence are
            shared; None stands for every kernel larger than 1 x 1.
        reduction: The routing squeezes ``C_in`` to ``C_in // reduction``.
        norm: Norm of the routing: ``'LN'``, ``'BN'`` (the authors') or None.
        gate: ``'identity'`` is ``2 * sigmoid(z)`` with z = 0 at the start,
            so exactly 1; ``'sigmoid'`` is the authors'.
        families: Names of the members of each family, relative to the module
            that got the settings. Overrides the rule that the first four
            arguments make.

    Raises:
        BadInput: If an argument is out of its type or range.
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
        for name in ('family_size', 'kernel_sizes', 'families'):
            object.__setattr__(self, name, _as_tuples(getattr(self, name)))
        for name, choices in (
            ('parent', PARENTS),
            ('norm', NORMS),
            ('gate', GATES),
        ):
            expected = 'one of ' + ', '.join(map(repr, choices))
            self._check(name, getattr(self, name) in choices, expected)
        for name in ('min_channels', 'reduction'):
            self._check(
                name, is_int(getattr(self, name), 1), 'an int of at least 1'
            )
        self._check(
            'kernel_sizes',
            self.kernel_sizes is None or _are_ints(self.kernel_sizes, 1),
            'None or a list of ints of at least 1, such as [3]',
        )
        self._check(
            'family_size',
            self.family_size is None
            or is_int(self.family_size, 2)
            or _are_ints(self.family_size, 2),
            'an int of at least 2, a list of them, or None for one family '
            'a stage',
        )
        if self.families is not None:
            self._check_families(self.families)

    def _check(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise _bad(name, getattr(self, name), expected)

    def _check_families(self, families: Any) -> None:
        self._check(
            'families',
            isinstance(families, tuple)
            and bool(families)
            and all(
                isinstance(family, tuple)
                and all(isinstance(name, str) for name in family)
                for family in families
            ),
            'a list of lists of layer names, such as '
            "[['layer4.1.conv2', 'layer4.2.conv2']]",
        )
        names = [name for family in families for name in family]
        for family in families:
            if len(family) < 2:
                raise _bad(
                    'families', family, 'at least two names in each family'
                )
        for name in names:
            if names.count(name) > 1:
                raise _bad(
                    'families',
                    name,
                    'each layer at most once; it is listed twice',
                )

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> 'Settings':
        """Read a ``conv_cfg`` without its ``type``.

        Raises:
            BadInput: If an argument is unknown or out of its range.
        """
        known = [field.name for field in fields(cls)]
        for name in arguments:
            if name in DELETED:
                _say_deleted(name)
            elif name not in known:
                near = difflib.get_close_matches(str(name), known, 1)
                hint = f'; did you mean {near[0]}?' if near else ''
                raise _bad(
                    name,
                    arguments[name],
                    'no such argument; there are ' + ', '.join(known) + hint,
                )
        return cls(**{k: v for k, v in arguments.items() if k in known})

    def __str__(self) -> str:
        """The arguments that differ from the defaults, as in a config."""
        changed = [
            f'{field.name}={getattr(self, field.name)!r}'
            for field in fields(self)
            if getattr(self, field.name) != field.default
        ]
        return 'dict(' + ', '.join(["type='KernelDNA'", *changed]) + ')'


@functools.cache
def _say_deleted(name: str) -> None:
    print_log(
        f'conv_cfg of KernelDNA: {name} is ignored. Earlier versions had it; '
        'delete it from the config.',
        'current',
        logging.WARNING,
    )


def _bad(name: str, value: object, expected: str) -> BadInput:
    return BadInput(
        f'conv_cfg of KernelDNA: {name}={value!r}: expected {expected}'
    )


def is_int(value: object, least: int) -> bool:
    """Whether a value is an int, no bool, of at least this much."""
    return (
        isinstance(value, int)
        and not isinstance(value, bool)
        and value >= least
    )


def _are_ints(values: object, least: int) -> bool:
    return (
        isinstance(values, tuple)
        and bool(values)
        and all(is_int(value, least) for value in values)
    )


def _as_tuples(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return tuple(_as_tuples(item) for item in value)
    return value
