"""Members that look like plain layers to OpenMMLab's initialisation.

``init_weights`` and the optimizer constructors ask ``isinstance(module,
nn.Conv2d)`` or compare class names, and must find members. Code that changes
kernels must not, so the disguise lasts only while these functions run.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from ..families.sites import walk
from ..layers import KernelDNALayer


@contextmanager
def as_plain(model: nn.Module) -> Iterator[None]:
    """In this context, members are subclasses of their plain class.

    A child has a temporary ``weight`` to initialise; loading and saving do
    not see it. A nested context changes nothing.
    """
    members: Any = [m for m in model.modules() if type(m) in _DISGUISES]
    for member in members:
        if member.adapter is not None:
            like = member.adapter.static.filter
            member.__dict__['weight'] = like.new_empty(member.kernel_shape)
        member.__class__ = _DISGUISES[type(member)]
    try:
        yield
    finally:
        for member in members:
            member.__class__ = member.member_class
            member.__dict__.pop('weight', None)


def _apply(self: nn.Module, function: Callable) -> nn.Module:
    """Like a plain layer: initialise no adapter below it."""
    function(self)
    return self


def _reduce(self: Any, protocol: Any) -> tuple:
    """Copy a disguised layer as a member."""
    state = {k: v for k, v in self.__dict__.items() if k != 'weight'}
    return object.__new__, (self.member_class,), state


# The plain class comes first: its methods count. Its name is kept, since a
# config may use it.
_DISGUISES: dict[type, Any] = {
    cls: type(
        cls.__name__,
        (cls.plain_class, KernelDNALayer),
        {
            'plain_class': cls.plain_class,
            'member_class': cls,
            'apply': _apply,
            '__reduce_ex__': _reduce,
        },
    )
    for cls in KernelDNALayer.__subclasses__()
}


def disguising(function: Callable, position: int) -> Callable:
    """Wrap a function so that it sees its model :func:`as_plain`.

    Args:
        function: The function; it is wrapped only once.
        position: Position of the model in the function's arguments.
    """
    if hasattr(function, 'disguises'):
        return function

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with as_plain([*args, *kwargs.values()][position]):
            return function(*args, **kwargs)

    wrapper.disguises = True  # type: ignore[attr-defined]
    return wrapper


def initialise_as_plain(model: nn.Module) -> None:
    """Make the modules around members initialise them as plain layers."""
    for _, layer, around in walk(model):
        if isinstance(layer, KernelDNALayer):
            classes: set[Any] = {c for _, m in around for c in type(m).__mro__}
            for cls in classes:
                if 'init_weights' in vars(cls):
                    cls.init_weights = disguising(cls.init_weights, 0)
