"""KernelDNA in any PyTorch model, and out of it again."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from torch import nn

from ..errors import BadInput
from ..families import conv_sites, form_families
from ..families.grouping import near_misses
from ..layers import KernelDNAConv2d, KernelDNALayer, KernelDNALinear, Policy
from ..layers.geometry import GEOMETRY
from .fade import keep_residuals, kernel_dna_layers


def convert(
    model: nn.Module, linear: bool = False, **conv_cfg: Any
) -> nn.Module:
    """Turn the eligible convolutions of a trained model into families.

    The model computes what it computed before: what a child's own kernel has
    beyond its family's stays as a residual, at ``t = 0``. Train it while
    :func:`set_fade` moves t to 1.

    Args:
        model: Any module with ``nn.Conv2d`` layers; changed in place.
        linear: Whether ``nn.Linear`` layers, which act on the last axis as
            pointwise convs, are eligible too (with ``kernel_sizes=(1,)``).
        **conv_cfg: As in a config, see :class:`mmkdna.families.Policy`.

    Returns:
        The same model.

    Raises:
        ValueError: If an argument is unknown or out of its range.
        BadInput: If no family forms; the model is as it was.
    """
    policy = Policy.from_conv_cfg(conv_cfg)
    plain = _replaceable(model, linear)
    state = model.state_dict()
    for name, layer in plain.items():
        _put(model, name, _shareable(layer, policy))
    try:
        families = form_families(model)
        if not families:
            misses = near_misses(conv_sites(model)).values()
            raise BadInput(
                f'{type(model).__name__}: no layers can share a kernel under '
                f'{policy}. Nearest misses: '
                f'{"; ".join(misses) or "it has no convolutions"}'
            )
    except Exception:
        _put_back(model, plain)
        raise
    members = {name for family in families for name, _ in family.members}
    _put_back(model, {n: p for n, p in plain.items() if n not in members})
    keep_residuals(model)
    model.load_state_dict(state)
    return model


def revert(model: nn.Module) -> nn.Module:
    """Give a model plain layers again, with the kernels that are in use.

    Args:
        model: A model with KernelDNA layers; changed in place. Its families
            are gone afterwards.

    Returns:
        The same model.

    Raises:
        BadInput: If a child's gate is not exactly 1 for every input: no plain
            layer computes what it does. The model is as it was.
    """
    layers = dict(kernel_dna_layers(model))
    gated = [
        name
        for name, layer in layers.items()
        if layer.adapter is not None and not layer.adapter.routing.is_open()
    ]
    if gated:
        raise BadInput(
            'the gates of these layers depend on their input, so no plain '
            f'layer computes the same: {", ".join(gated)}. Only a model whose '
            "gates are exactly 1 (gate='identity', not trained) can be "
            'reverted.'
        )
    for name, layer in {
        name: _plain(la) for name, la in layers.items()
    }.items():
        _put(model, name, layer)
    return model


def _replaceable(
    model: nn.Module, linear: bool
) -> dict[str, nn.Conv2d | nn.Linear]:
    """Ordinary layers with a kernel that is theirs alone, by name."""
    users = Counter(
        id(p) for _, p in model.named_parameters(remove_duplicate=False)
    )
    kinds = (nn.Conv2d, nn.Linear) if linear else (nn.Conv2d,)
    return {
        name: layer
        for name, layer in model.named_modules()
        # A subclass may do something else with its weight; a weight that is
        # computed (spectral norm) is no parameter of the layer.
        if name
        and type(layer) in kinds
        and users[id(layer._parameters.get('weight'))] == 1
    }


def _shareable(layer: nn.Conv2d | nn.Linear, policy: Policy) -> KernelDNALayer:
    """Ours in the place of a plain layer, with its parameters."""
    ours: KernelDNALayer
    if isinstance(layer, nn.Linear):
        ours = KernelDNALinear(
            layer.in_features, layer.out_features, device='meta', policy=policy
        )
    else:
        ours = KernelDNAConv2d(
            **{name: getattr(layer, name) for name in GEOMETRY},
            device='meta',
            policy=policy,
        )
    ours.weight, ours.bias = layer.weight, layer.bias  # type: ignore
    return ours.train(layer.training)


def _plain(layer: KernelDNALayer) -> nn.Module:
    """A plain layer with the kernel that is in use."""
    plain: nn.Conv2d | nn.Linear
    if isinstance(layer, KernelDNALinear):
        plain = nn.Linear(layer.in_channels, layer.out_channels, device='meta')
    else:
        geometry = {name: getattr(layer, name) for name in GEOMETRY}
        plain = nn.Conv2d(**geometry, device='meta')
    trained = next(layer.parameters()).requires_grad
    kernel = layer.kernel().detach().clone()
    plain.weight = nn.Parameter(kernel, requires_grad=trained)
    plain.bias = layer.bias
    return plain.train(layer.training)


def _put(model: nn.Module, name: str, layer: nn.Module) -> None:
    path, _, last = name.rpartition('.')
    setattr(model.get_submodule(path), last, layer)


def _put_back(model: nn.Module, layers: Mapping[str, nn.Module]) -> None:
    for name, layer in layers.items():
        _put(model, name, layer)
