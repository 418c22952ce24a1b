"""What several test modules need: models, formulas, processes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from mmcv.cnn import ConvModule
from mmengine.registry import MODELS
from torch import nn

import mmkdna

ROOT = Path(__file__).parent.parent


def families(model):
    """Each as short text: children <- parent."""
    return [str(family) for family in mmkdna.list_families(model)]


class Block(nn.Module):
    """A residual block of one conv."""

    def __init__(self, channels, conv_cfg, stride=1):
        super().__init__()
        self.conv = ConvModule(
            channels,
            channels,
            3,
            stride=stride,
            padding=1,
            conv_cfg=conv_cfg,
            norm_cfg=dict(type='BN'),
        )

    def forward(self, x):
        return x + self.conv(x)


@MODELS.register_module()
class Stages(nn.Module):
    """Stages of blocks; the first block of a stage may have stride 2."""

    def __init__(self, depths, channels=16, conv_cfg=None, strided=False):
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(
                *(
                    Block(channels, conv_cfg, 2 if strided and not i else 1)
                    for i in range(depth)
                )
            )
            for depth in depths
        )

    def forward(self, x):
        for stage in self.stages:
            x = stage(x)
        return x


def perturb_adapters(model, scale=0.1):
    """Move every adapter away from its start, where gates are exactly 1."""
    for name, parameter in model.named_parameters():
        if '.adapter.' in name or name.startswith('adapter.'):
            with torch.no_grad():
                parameter.add_(torch.randn_like(parameter), alpha=scale)


def gate_and_kernel(child, mean):
    """In numpy, from DESIGN's formulas; mean is the pooled input (N, C)."""
    state = {k: v.detach().numpy() for k, v in child.state_dict().items()}
    settings = child.kernel_dna

    z = mean @ state['adapter.routing.squeeze'].T
    if settings.norm == 'LN':
        z = (z - z.mean(1, keepdims=True)) / np.sqrt(
            z.var(1, keepdims=True) + 1e-5
        )
    elif settings.norm == 'BN':  # in eval
        z = (z - state['adapter.routing.norm.running_mean']) / np.sqrt(
            state['adapter.routing.norm.running_var'] + 1e-5
        )
    if settings.norm is not None:
        z = (
            z * state['adapter.routing.norm.weight']
            + state['adapter.routing.norm.bias']
        )
    z = np.maximum(z, 0) @ state['adapter.routing.excite'].T
    gate = 1 / (1 + np.exp(-(z + state['adapter.routing.bias'])))
    if settings.gate == 'identity':
        gate = 2 * gate

    kernel = child.parent.weight.detach().numpy()
    kernel = kernel * (1 + state['adapter.static.filter'])
    if 'adapter.static.spatial' in state:
        kernel = kernel * (1 + state['adapter.static.spatial'])
    return gate, kernel


def linear_by_the_formulas(child, x):
    """The output of a linear child for (N, H, W, C_in), in numpy."""
    x = x.detach().numpy()
    gate, kernel = gate_and_kernel(child, x.mean((1, 2)))
    out = (x * gate[:, None, None]) @ kernel.T
    return out if child.bias is None else out + child.bias.detach().numpy()


def by_the_formulas(child, x):
    """A child's output in numpy, from DESIGN's formulas and nothing else."""
    x = x.detach().numpy()
    gate, kernel = gate_and_kernel(child, x.mean((2, 3)))

    x = x * gate[:, :, None, None]
    ph, pw = child.padding
    x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    n, _, height, width = x.shape
    (kh, kw), (sh, sw), (dh, dw) = (
        child.kernel_size,
        child.stride,
        child.dilation,
    )
    out_h = (height - dh * (kh - 1) - 1) // sh + 1
    out_w = (width - dw * (kw - 1) - 1) // sw + 1
    out = np.zeros((n, child.out_channels, out_h, out_w))
    per_group = child.in_channels // child.groups
    filters = child.out_channels // child.groups
    for o in range(child.out_channels):
        first = o // filters * per_group
        for i in range(out_h):
            for j in range(out_w):
                window = x[
                    :,
                    first : first + per_group,
                    i * sh : i * sh + dh * kh : dh,
                    j * sw : j * sw + dw * kw : dw,
                ]
                out[:, o, i, j] = (window * kernel[o]).sum((1, 2, 3))
    if child.bias is not None:
        out += child.bias.detach().numpy()[:, None, None]
    return out


def run(command, cwd):
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, 'PYTHON': sys.executable},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def processes(number, script, *args):
    """The output of so many processes that run a script of this folder."""
    done = subprocess.run(
        [
            *(sys.executable, '-m', 'torch.distributed.run', '--standalone'),
            *('--nproc-per-node', str(number), ROOT / 'tests' / script, *args),
        ],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
