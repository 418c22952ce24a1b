"""Backbones of other libraries, plain and with KernelDNA: a table of docs.

For each it builds both, gives both the same weights (a child's own kernel is
its parent's), compares their outputs and takes a backward. Weights are random.

    pip install --no-deps mmyolo==0.6.0
    python experiments/other_libraries.py mmyolo

Most of these libraries ask for an older mmcv than the maintained one, or for
packages that their backbones do not need: both are pretended to be there.
"""

import argparse
import collections
import collections.abc
import importlib
import importlib.abc
import importlib.machinery
import sys
import warnings
from unittest.mock import MagicMock

import mmcv
import mmdet
import mmengine
import torch
from mmengine.registry import MODELS
from rich.console import Console
from rich.table import Table

import mmkdna

PRETENDED = dict(mmcv='2.0.1', mmengine='0.10.3', mmdet='3.1.0')
ABSENT = (
    'chumpy', 'e2cnn', 'lyft_dataset_sdk', 'nuscenes', 'open3d',
    'xtcocotools',
    # The wheel of mmaction2 1.2.0 lacks it.
    'mmaction.models.localizers.drn',
)  # fmt: skip
MODULES = dict(mmaction2='mmaction')
IMAGE = (2, 3, 128, 128)
WIDE = dict(conv_cfg=dict(type='KernelDNA'))
BY_KEY = dict(kernel_dna=dict(min_channels=128))
POINTWISE = dict(kernel_dna=dict(kernel_sizes=[1], min_channels=64))
MEDIUM = dict(deepen_factor=0.67, widen_factor=0.75)
HOURGLASS = dict(
    num_stacks=1,
    downsample_times=3,
    stage_channels=(256, 256, 384, 384),
    stage_blocks=(2, 2, 2, 4),
)
LINEAR = dict(linear=True, kernel_sizes=(1,))
SECOND = dict(
    in_channels=64,
    layer_nums=[3, 5, 5],
    layer_strides=[2, 2, 2],
    out_channels=[64, 128, 256],
)


def hrnet() -> dict:
    """The arguments of HRNet-W32."""
    counts = (1, 1, 4, 3)
    extra = {
        f'stage{i}': dict(
            num_modules=counts[i - 1],
            num_branches=i,
            block='BASIC',
            num_blocks=(4,) * i,
            num_channels=tuple(32 * 2**n for n in range(i)),
        )
        for i in (2, 3, 4)
    }
    extra['stage1'] = dict(
        num_modules=1,
        num_branches=1,
        block='BOTTLENECK',
        num_blocks=(4,),
        num_channels=(64,),
    )
    return dict(in_channels=3, extra=extra)


CASES: dict[str, list] = {
    'mmrotate': [
        ('mmdet.ResNet', dict(depth=50), WIDE, IMAGE),
        ('mmdet.CSPNeXt', MEDIUM, BY_KEY, IMAGE),
    ],
    'mmpose': [
        ('mmpose.ResNet', dict(depth=50), WIDE, IMAGE),
        (
            'mmpose.HRNet',
            hrnet(),
            dict(conv_cfg=dict(type='KernelDNA', min_channels=128)),
            IMAGE,
        ),
        ('mmpose.CSPNeXt', MEDIUM, BY_KEY, IMAGE),
        ('mmpose.HourglassNet', HOURGLASS, dict(kernel_dna={}), IMAGE),
        ('mmpose.TCN', dict(in_channels=34), WIDE, (2, 34, 243)),
    ],
    'mmyolo': [
        (f'mmyolo.{name}', MEDIUM, BY_KEY, IMAGE)
        for name in (
            'YOLOv5CSPDarknet',
            'YOLOv6EfficientRep',
            'YOLOv8CSPDarknet',
            'YOLOXCSPDarknet',
            'PPYOLOECSPResNet',
            'CSPNeXt',
        )
    ]
    + [('mmyolo.YOLOv7Backbone', dict(arch='L'), BY_KEY, IMAGE)],
    'mmdet3d': [
        (
            'mmdet3d.SECOND',
            dict(SECOND, conv_cfg=dict(type='Conv2d', bias=False)),
            dict(conv_cfg=dict(type='KernelDNA', min_channels=64, bias=False)),
            (2, 64, 64, 64),
        ),
        (
            'mmdet3d.DLANet',
            dict(depth=34, norm_cfg=dict(type='BN')),
            WIDE,
            IMAGE,
        ),
    ],
    'mmaction2': [
        ('mmaction.ResNet', dict(depth=50), WIDE, IMAGE),
        ('mmaction.ResNetTSM', dict(depth=50, num_segments=2), WIDE, IMAGE),
        ('mmaction.MobileNetV2TSM', dict(num_segments=2), POINTWISE, IMAGE),
        ('mmaction.ResNet3d', dict(depth=50), WIDE, (1, 3, 8, 64, 64)),
    ],
    'timm': [
        ('resnet50', {}, {}, IMAGE),
        ('resnetv2_50', {}, {}, IMAGE),
        ('densenet121', {}, dict(min_channels=32), IMAGE),
        ('regnety_016', {}, dict(min_channels=64), IMAGE),
        (
            'efficientnet_b0',
            {},
            dict(kernel_sizes=(1,), min_channels=64),
            IMAGE,
        ),
        ('convnext_tiny', {}, dict(LINEAR, reduction=16), IMAGE),
        (
            'swin_tiny_patch4_window7_224',
            {},
            dict(LINEAR, min_channels=128),
            (1, 3, 224, 224),
        ),
    ],
}


class Pretend(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds modules that are not there, as anything that is asked for."""

    def find_spec(self, name, path, target=None):
        if not any(f'{name}.'.startswith(f'{n}.') for n in ABSENT):
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        module = MagicMock()
        module.__spec__, module.__path__ = spec, []
        return module

    def exec_module(self, module):
        pass


def registered(library: str) -> None:
    """Import a library, past its questions for versions and packages."""
    for module in (mmcv, mmengine, mmdet):
        module.__version__ = PRETENDED[module.__name__]
    # mmrotate 1.0.0rc1 is of a time before Python 3.10.
    collections.Sequence = collections.abc.Sequence  # type: ignore
    sys.meta_path.append(Pretend())
    importlib.import_module(f'{MODULES.get(library, library)}.models')


def pair(library: str, name: str, arguments: dict, switch: dict) -> tuple:
    """A backbone plain, and with KernelDNA."""
    if library == 'timm':
        timm = importlib.import_module('timm')
        ours = timm.create_model(name)
        return timm.create_model(name), mmkdna.convert(ours, **switch)
    arguments = dict(arguments, type=name)
    return MODELS.build(arguments), MODELS.build({**arguments, **switch})


def tensors(outputs) -> list:
    if torch.is_tensor(outputs):
        return [outputs]
    if isinstance(outputs, dict):
        outputs = outputs.values()
    return [tensor for output in outputs for tensor in tensors(output)]


def compare(plain, ours, x) -> float:
    """How far the outputs are apart, relative, with the same weights."""
    state = plain.state_dict()
    for family in mmkdna.list_families(ours):
        for child, _ in family.children:
            kernel = state[f'{family.parent.name}.weight']
            state[f'{child}.weight'].copy_(kernel)
    missing = ours.load_state_dict(state, strict=False).missing_keys
    assert all('.adapter.' in key for key in missing), missing
    plain.eval()
    ours.eval()
    with torch.no_grad():
        outputs = zip(tensors(plain(x)), tensors(ours(x)), strict=True)
        off = max(float((a - b).norm() / a.norm()) for a, b in outputs)
    ours.train()
    sum(y.square().mean() for y in tensors(ours(x))).backward()
    grads = [p.grad for p in ours.parameters() if p.grad is not None]
    assert grads
    assert all(grad.isfinite().all() for grad in grads)
    return off


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('library', choices=CASES)
    library = parser.parse_args().library
    warnings.filterwarnings('ignore')
    if library != 'timm':
        registered(library)
    table = Table(
        'backbone', 'switch', 'families', 'parameters, M', 'plain', '', 'off'
    )
    for name, arguments, switch, shape in CASES[library]:
        words = ', '.join(f'{k}={v}' for k, v in switch.items()) or 'defaults'
        try:
            plain, ours = pair(library, name, arguments, switch)
        except ValueError as error:
            table.add_row(name, words, str(error))
            continue
        counts = [
            sum(p.numel() for p in model.parameters())
            for model in (ours, plain)
        ]
        table.add_row(
            name,
            words,
            str(len(mmkdna.list_families(ours))),
            *(f'{count / 1e6:.2f}' for count in counts),
            f'{counts[0] / counts[1] - 1:+.1%}',
            f'{compare(plain, ours, torch.randn(shape)):.0e}',
        )
    Console(width=160).print(table)


if __name__ == '__main__':
    main()
