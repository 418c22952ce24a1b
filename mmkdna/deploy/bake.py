"""The inference form of a model: each layer has its own kernel."""

from collections.abc import Container
from typing import Any

import torch
from torch import Tensor, nn

from ..adoption.convert import members_alone
from ..adoption.notes import BAKED
from ..adoption.state_dict import unwatch
from ..checkpoint import read_weights
from ..errors import BadInput
from ..families.linking import unlink
from ..layers import DynamicRouting


class GatedConv2d(nn.Conv2d):
    """A baked child, ``conv2d(x * gate(x), W)``.

    ``gate`` maps the mean over an input's pixels, ``(N, C_in)``, to a factor
    for each of its channels.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Convolve ``(N, C_in, H, W)`` or ``(C_in, H, W)``."""
        gate = self.gate(input.mean((-2, -1)))  # type: ignore[operator]
        gate = gate[..., None, None]
        return self._conv_forward(input * gate, self.weight, self.bias)


class GatedLinear(nn.Linear):
    """A baked linear child, ``linear(x * gate(x), W)``."""

    def forward(self, input: Tensor) -> Tensor:
        """Map ``(N, ..., C_in)`` to ``(N, ..., C_out)``."""
        pixels = input.reshape(len(input), -1, self.in_features)
        gate = self.gate(pixels.mean(1))  # type: ignore[operator]
        gated = (pixels * gate[:, None]).reshape(input.shape)
        return nn.functional.linear(gated, self.weight, self.bias)


_GATED: dict[Any, Any] = {nn.Conv2d: GatedConv2d, nn.Linear: GatedLinear}


@torch.no_grad()
def bake(model: nn.Module, gated: Container[str] | None = None) -> nn.Module:
    """Give every member its own kernel, for inference.

    A member becomes an ``nn.Conv2d`` or an ``nn.Linear``. A child whose gate
    is not 1 becomes a :class:`GatedConv2d` or a :class:`GatedLinear`, which
    are subclasses of these. So tools that fuse, quantise, prune or export
    plain layers work with them. The model has as many parameters as the
    plain one, and its gates in addition.

    Args:
        model: A model with families; changed in place. It has no families
            afterwards.
        gated: Names of the children that keep a gate. By default, those whose
            gate is not exactly 1.

    Returns:
        The same model.

    Raises:
        BadInput: If the model has no families, only a part of one, or a
            member with a parametrised weight. It does not change then.
    """
    members = members_alone(model)
    if not members:
        raise BadInput(
            f'{type(model).__name__} has no families to bake: expected a '
            "model built with conv_cfg=dict(type='KernelDNA'), after "
            'mmkdna.form_families(model) in plain PyTorch code'
        )
    baked = [_baked(name, layer, gated) for name, layer in members.items()]
    for layer, (kernel, gate) in zip(members.values(), baked, strict=True):
        unlink(layer, kernel)
        if gate is not None:
            layer.gate = gate
            layer.__class__ = _GATED[type(layer)]
    for module in unwatch(model):
        module._register_load_state_dict_pre_hook(_refuse_adapter)
    model._register_state_dict_hook(_say_baked)
    return model


def load_baked(model: nn.Module, path: str) -> nn.Module:
    """Bake a model like the model of a baked file, and load the file.

    Args:
        model: A new model of the file's config; changed in place.
        path: The file that ``tools/bake.py`` wrote.

    Raises:
        FileNotFoundError: If there is no such file.
        BadInput: If the file does not fit the model.
    """
    weights = read_weights(path)
    names = {key.rpartition('.gate.')[0] for key in weights}
    bake(model, names - {''})
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise BadInput(
            f'{path} is not the baked checkpoint of this model: {error}'
        ) from None
    return model


def _baked(
    name: str, layer: Any, gated: Container[str] | None
) -> tuple[Tensor | None, Any]:
    """A child's kernel and its gate; None for what a member lacks."""
    if layer.adapter is None:
        return None, None
    kernel, routing = layer.kernel().clone(), layer.adapter.routing
    if routing.is_open() if gated is None else name not in gated:
        return kernel, None
    # The 2 of 2 * sigmoid goes into the kernel.
    factor = 2 if routing.identity_gate else 1
    return kernel * factor, _gate(routing).train(layer.training)


def _gate(routing: DynamicRouting) -> nn.Sequential:
    """A routing as torch's own layers, without the factor 2."""
    squeezed, channels = routing.squeeze.shape
    like: Any = dict(device=routing.bias.device, dtype=routing.bias.dtype)
    squeeze = nn.Linear(channels, squeezed, bias=False, **like)
    excite = nn.Linear(squeezed, channels, **like)
    squeeze.weight.copy_(routing.squeeze)
    excite.weight.copy_(routing.excite)
    excite.bias.copy_(routing.bias)
    norm: Any = routing.norm
    if isinstance(norm, nn.BatchNorm1d):
        plain = nn.BatchNorm1d(squeezed, norm.eps, norm.momentum, **like)
        plain.load_state_dict(norm.state_dict())
        norm = plain
    return nn.Sequential(squeeze, norm, nn.ReLU(), excite, nn.Sigmoid())


def _say_baked(
    module: nn.Module, state: Any, prefix: str, local_metadata: dict
) -> None:
    local_metadata[BAKED] = True


def _refuse_adapter(state: dict, prefix: str, *_: Any) -> None:
    """Refuse a checkpoint with adapters: a baked model has none."""
    for key in state:
        if key.startswith(prefix) and '.adapter.static.' in key:
            raise BadInput(
                f'the model is baked, and the checkpoint is not ({key}): load '
                'it first, then call mmkdna.bake(model)'
            )
