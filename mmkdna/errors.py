"""Errors for wrong input, with a sentence that says what to do."""

import difflib
import errno
from collections.abc import Iterable

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
"""Errors of a system that takes no more bytes."""


class BadInput(ValueError):
    """A file, an argument or a config that cannot be used.

    The tools print only its message: a traceback would only show which line
    found the mistake.
    """


def check(what: str, value: object, holds: bool, expected: str) -> None:
    """Raise :class:`BadInput` for a value if ``holds`` is false."""
    if not holds:
        raise BadInput(f'{what}={value!r}: expected {expected}')


def check_known(what: str, value: object, name: str, known: list) -> None:
    """Raise :class:`BadInput` for an argument that does not exist."""
    near = difflib.get_close_matches(str(name), known, 1)
    hint = f'; did you mean {near[0]}?' if near else ''
    there = f'one of the arguments {", ".join(known)}{hint}'
    check(f'{what}{name}', value, name in known, there)


def is_int(value: object, least: int) -> bool:
    """Whether a value is an int of at least ``least``, and not a bool."""
    return type(value) is int and value >= least


def are_ints(values: object, least: int) -> bool:
    """Whether a value is a tuple of one or more such ints."""
    return (
        isinstance(values, tuple)
        and bool(values)
        and all(is_int(value, least) for value in values)
    )


def check_int(what: str, value: object, least: int) -> None:
    """Raise :class:`BadInput` for all but ints of at least ``least``."""
    check(what, value, is_int(value, least), f'an int of at least {least}')


def check_one_of(what: str, value: object, choices: Iterable) -> None:
    """Raise :class:`BadInput` for a value that is not one of these."""
    known = list(choices)
    expected = 'one of ' + ', '.join(map(repr, known))
    check(what, value, value in known, expected)
