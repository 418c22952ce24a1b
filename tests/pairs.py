"""Small families, and what a child of one computes, written out by hand."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

import mmkdna

SETTINGS = ('parent', 'reduction', 'norm', 'gate')


def family(
    in_channels=8, out_channels=8, size=3, members=2, linear=False, **kwargs
):
    """Layers of one family; its adapters are away from their start.

    By name, so that strided and depthwise ones are a family, too.
    """
    settings = {k: kwargs.pop(k) for k in SETTINGS if k in kwargs}
    make = nn.Linear if linear else nn.Conv2d
    sizes = () if linear else (size,)
    model = nn.Sequential(
        *(
            make(in_channels, out_channels, *sizes, **kwargs)
            for _ in range(members)
        )
    )
    names = [[str(i) for i in range(members)]]
    mmkdna.convert(
        model, linear, families=names, **{'reduction': 2, **settings}
    )
    for name, parameter in model.named_parameters():
        if '.adapter.' in name:
            nn.init.normal_(parameter, std=0.5)
    return model


def pair(*args, **kwargs):
    """A child, and the model that keeps its parent."""
    model = family(*args, **kwargs)
    (child,) = (m for m in model if m.role == 'child')
    return child, model


def by_hand(child, x):
    """``conv2d(x * g(x), W_p * (1 + f) * (1 + s))`` of ordinary operations."""
    settings, static = child.kernel_dna, child.adapter.static
    routing = child.adapter.routing
    conv = len(child.kernel_shape) > 2
    z = x.mean((2, 3)) if conv else x.reshape(len(x), -1, x.shape[-1]).mean(1)
    z = F.linear(z, routing.squeeze)
    if settings.norm == 'LN':
        z = F.layer_norm(
            z, z.shape[1:], routing.norm.weight, routing.norm.bias
        )
    elif settings.norm == 'BN':
        z = F.batch_norm(
            z,
            routing.norm.running_mean.clone(),
            routing.norm.running_var.clone(),
            routing.norm.weight,
            routing.norm.bias,
            child.training,
        )
    gate = torch.sigmoid(F.linear(F.relu(z), routing.excite, routing.bias))
    if settings.gate == 'identity':
        gate = 2 * gate
    kernel = child.parent.weight * (1 + static.filter)
    if static.spatial is not None:
        kernel = kernel * (1 + static.spatial)
    tensors = {'weight': kernel}
    if child.bias is not None:
        tensors['bias'] = child.bias
    if not conv:
        shape = (len(x), *[1] * (x.dim() - 2), -1)
        return F.linear(x * gate.reshape(shape), **tensors)
    plain = nn.Conv2d(
        child.in_channels,
        child.out_channels,
        child.kernel_size,
        child.stride,
        child.padding,
        child.dilation,
        child.groups,
        child.bias is not None,
        child.padding_mode,
    )
    return functional_call(plain, tensors, x * gate[..., None, None])


def gradients(output, inputs):
    """Of a sum that weighs each entry of the output differently."""
    weights = torch.linspace(-1, 1, output.numel()).reshape(output.shape)
    return torch.autograd.grad((output.float() * weights).sum(), inputs)
