"""What several test modules need: models, formulas, processes."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from mmcv.cnn import ConvModule, build_conv_layer
from mmengine.registry import MODELS
from torch import nn

import mmkdna
from mmkdna.measure.configs import library

ROOT = Path(__file__).parent.parent
CONV_CFG = dict(type='KernelDNA', min_channels=16)


def conv(channels=16, out_channels=None, size=3, layer=None, **settings):
    """A marked conv; `layer` has more arguments of nn.Conv2d."""
    cfg = dict(type='KernelDNA', **{'min_channels': 1, **settings})
    out_channels = out_channels or channels
    return build_conv_layer(cfg, channels, out_channels, size, **(layer or {}))


def convs(number):
    """Marked convs in a row; they form no family by themselves."""
    return nn.Sequential(
        *(build_conv_layer(CONV_CFG, 16, 16, 3) for _ in range(number))
    )


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


@MODELS.register_module(force=True)
class Pair(nn.Module):
    """Two parts, each of which has stages."""

    def __init__(self, one, other):
        super().__init__()
        self.one = MODELS.build(one)
        self.other = MODELS.build(other)


def stages(families, depths=(2,)):
    """A config of stages whose families are listed by name."""
    conv_cfg = dict(type='KernelDNA', families=families)
    return dict(type='Stages', depths=depths, conv_cfg=conv_cfg)


@MODELS.register_module(force=True)
class TakesNoConvCfg(nn.Module):
    """As a backbone of torchvision's."""

    def __init__(self):
        super().__init__()
        self.convs = nn.Sequential(*(nn.Conv2d(16, 16, 3) for _ in '123'))
        self.linears = nn.Sequential(*(nn.Linear(64, 64) for _ in '12'))


def families(model):
    """Each as short text: children <- parent."""
    return [str(family) for family in mmkdna.list_families(model)]


def count(model):
    """How many families it has."""
    return len(mmkdna.list_families(model))


def formed(*layers):
    """The families that layers in a row form."""
    return list(map(str, mmkdna.form_families(nn.Sequential(*layers))))


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
    """What a command says, which must succeed."""
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


SIZE = (64, 64)


def small(cfg):
    """The same model with little to do on small images."""
    cfg = copy.deepcopy(cfg)
    if library(cfg) == 'mmseg':
        cfg.model.data_preprocessor.size = SIZE
    if 'rpn_proposal' in (cfg.model.get('train_cfg') or {}):
        cfg.model.train_cfg.rpn_proposal.update(nms_pre=50, max_per_img=20)
        # Most anchors are larger than the image.
        cfg.model.train_cfg.rpn.allowed_border = -1
    if 'drop_path_rate' in cfg.model.backbone:
        # It may drop a block for the whole batch.
        cfg.model.backbone.drop_path_rate = 0.0
    if 'num_queries' in cfg.model:
        # Not more than a small image has places.
        cfg.model.num_queries = 20
    return cfg


DIGITS = str(ROOT / 'configs/digits/kdna_maskrcnn_r18.py')


COCO = str(ROOT / 'configs/kdna_maskrcnn_r50.py')


class Hostile:
    """Calls a function when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call
