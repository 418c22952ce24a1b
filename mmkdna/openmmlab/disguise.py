"""Members as the plain layers that they replace, for code that asks.

OpenMMLab's ``init_weights`` and its optimizer constructors ask
``isinstance(module, nn.Conv2d)`` or compare the names of classes. What a
member must not be to code that owns kernels, it has to be to these.
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
    """While this lasts, members are subclasses of their plain class.

    A child has a ``weight`` to initialise, which is thrown away; loading and
    saving do not see it. Inside another of these it changes nothing.
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
    """As of the plain layer: no adapter below it to initialise."""
    function(self)
    return self


def _reduce(self: Any, protocol: Any) -> tuple:
    """A copy is a member again."""
    state = {k: v for k, v in self.__dict__.items() if k != 'weight'}
    return object.__new__, (self.member_class,), state


# The plain class is the base whose methods count, under the name that a
# config may use.
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
    """A function that runs while the model it is given is as plain.

    Args:
        function: What to wrap; wrapped once however often this is called.
        position: Of the model among the function's arguments.
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
    """Have the modules around members initialise them as plain layers."""
    for _, layer, around in walk(model):
        if isinstance(layer, KernelDNALayer):
            classes: set[Any] = {c for _, m in around for c in type(m).__mro__}
            for cls in classes:
                if 'init_weights' in vars(cls):
                    cls.init_weights = disguising(cls.init_weights, 0)
