"""Networks with weights as of a training, and what they compute."""

import copy

import torch
from mmengine.registry import MODELS

R18 = dict(type='mmdet.ResNet', depth=18, base_channels=4, norm_eval=False)
R50 = dict(type='mmdet.ResNet', depth=50, base_channels=4, norm_eval=False)


def build(cfg, **conv_cfg):
    """A network with families."""
    conv_cfg = dict(type='KernelDNA', **{'min_channels': 16, **conv_cfg})
    return MODELS.build(dict(copy.deepcopy(cfg), conv_cfg=conv_cfg))


def randomise(model, gates=True):
    """Weights and statistics as of a network that was trained."""
    for name, value in model.state_dict().items():
        if value.dtype == torch.long:
            continue
        if '.adapter.static.' in name:
            value.normal_(std=0.2)
        elif '.adapter.' in name:
            moves = gates and '.routing.' in name
            value.add_(torch.randn_like(value), alpha=0.3 * moves)
        elif value.dim() > 1:
            value.normal_(std=(2 / value[0].numel()) ** 0.5)
        elif name.endswith(('weight', 'running_var')):
            value.uniform_(0.5, 1.5)
        else:
            value.normal_(std=0.2)
    return model


def outputs(model, *shape):
    """What it computes of a fixed input."""
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(*(shape or (2, 3, 64, 64)), generator=generator)
    dtype = next(model.parameters()).dtype
    model.eval()
    with torch.no_grad():
        out = model(x.to(dtype))
    return out[-1] if isinstance(out, (tuple, list)) else out


def off(found, expected):
    """The relative error of a tensor."""
    with torch.no_grad():
        return float((found - expected).norm() / expected.norm())
