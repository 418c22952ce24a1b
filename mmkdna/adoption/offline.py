"""Adopt the weights of a checkpoint file without a training run."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from ..errors import BadInput
from ..families import list_families
from .source import CHILD
from .state_dict import distance


@dataclass(frozen=True)
class Adopted:
    """The result of adopting a checkpoint.

    Args:
        part: Name of the part of the model that the checkpoint is for; ``''``
            is the whole model.
        weights: The part's state dict, without the missing entries.
        left_out: Entries of the checkpoint that the part does not have.
        missing: Entries of the part that the checkpoint does not have.
        lost: For each child with a kernel in the checkpoint: the relative
            distance of that kernel from the one that the child starts with.
    """

    part: str
    weights: dict[str, Tensor]
    left_out: list[str]
    missing: list[str]
    lost: dict[str, float]


def adopt_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> Adopted:
    """Load weights into the model, or into the part that they fit.

    Args:
        model: A model with families; changed in place.
        weights: A state dict of the whole model or of a part, such as its
            backbone.

    Raises:
        BadInput: If the weights are of another architecture or shape.
    """
    part = _part(model, weights)
    target = model.get_submodule(part)
    state = OrderedDict(weights)
    # The metadata has the families of the checkpoint.
    state._metadata = getattr(weights, '_metadata', None)  # type: ignore
    families = list_families(target)
    for family in families:
        # If the parent has no kernel in the checkpoint, take a child's.
        kernel = f'{family.parent.name}.weight'
        if f'{family.parent.name}.{CHILD}' in weights:
            continue
        for name, _ in reversed(family.children):
            if f'{name}.weight' in weights:
                state.setdefault(kernel, weights[f'{name}.weight'])
    try:
        result = target.load_state_dict(state, strict=False)
    except RuntimeError as error:
        # Skip the first line: it only has the name of the class.
        lines = str(error).splitlines()[1:]
        raise BadInput(
            'the checkpoint does not fit the model:'
            + ''.join(f'\n{line}' for line in lines)
        ) from None
    missing = set(result.missing_keys)
    lost = {
        name: distance(
            weights[f'{name}.weight'],
            layer.kernel(),  # type: ignore[operator]
        )
        for family in families
        for name, layer in family.children
        if f'{name}.weight' in weights
    }
    # With its metadata, which names the families.
    kept = target.state_dict()
    for key in missing:
        kept.pop(key, None)
    return Adopted(
        part, kept, sorted(result.unexpected_keys), sorted(missing), lost
    )


def _part(model: nn.Module, weights: Mapping[str, Tensor]) -> str:
    """The whole model, or the part that has more of the weights' names."""
    parts = [
        '',
        *(name for name, m in model.named_children() if list_families(m)),
    ]
    names = {part: _plain_names(model.get_submodule(part)) for part in parts}
    found = {part: len(names[part] & set(weights)) for part in parts}
    best = max(parts, key=lambda part: found[part])
    # Other networks of a library have up to half of the names by chance.
    if not list_families(model.get_submodule(best)) or (
        found[best] < 0.9 * len(names[best])
        and best
        or found[best] < 0.5 * len(weights)
    ):
        raise BadInput(
            'the checkpoint is of another architecture than the '
            f'{best or "model"} of this config: '
            f'{_some(names[best] - set(weights))} not in the checkpoint, '
            f'{_some(set(weights) - names[best])} not in the {best or "model"}'
        )
    return best


def _some(names: set[str]) -> str:
    first = min(names, default='none')
    return first if len(names) < 2 else f'{first} and {len(names) - 1} more'


def _plain_names(module: nn.Module) -> set[str]:
    """The names of the entries of a plain checkpoint."""
    names = {key for key in module.state_dict() if '.adapter.' not in key}
    for family in list_families(module):
        names.update(f'{child.name}.weight' for child in family.children)
    return names
