"""Read configs, and make their plain twins or other conv types."""

import ast
import copy
import math
from collections.abc import Iterable
from typing import Any

from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from ..errors import BadInput, check_one_of
from ..openmmlab.conv_type import settings_of
from ..peers import TYPES

PLAIN = 'plain'
CONV_TYPES = ('KernelDNA', *TYPES)


def conv_cfgs(types: Iterable[str]) -> dict[str, dict | None]:
    """The ``conv_cfg`` of each conv type by its text, plain first."""
    return {name: parse_conv_type(name) for name in (PLAIN, *types)}


def parse_conv_type(text: str) -> dict | None:
    """The ``conv_cfg`` of ``TYPE`` or ``TYPE,argument=value,...``.

    Raises:
        BadInput: If there is no such conv type, or the arguments have
            another form.
    """
    kind, comma, arguments = text.partition(',')
    if text == PLAIN:
        return None
    # Not CONV_TYPES: a config may have registered more types.
    known = ('KernelDNA', *TYPES)
    if kind not in known:
        raise BadInput(
            f'--types {text}: there is no conv type {kind!r}, expected one of '
            f'{", ".join(known)}, with arguments as in ODConv,experts=4'
        )
    try:
        call: Any = ast.parse(f'dict({arguments})', mode='eval').body
        if call.args or (comma and not call.keywords):
            raise ValueError('no argument=value')
        values = {k.arg: _value(k.value) for k in call.keywords}
    except (SyntaxError, ValueError) as error:
        raise BadInput(
            f'--types {text}: {arguments!r}: expected argument=value, as in '
            f'ODConv,experts=4 ({error})'
        ) from error
    return dict(type=kind, **values)


def _value(node: ast.expr) -> Any:
    """A literal, or a word without quotes, as in norm=LN."""
    return node.id if isinstance(node, ast.Name) else ast.literal_eval(node)


def library(cfg: Config) -> str:
    """The library of a config: its ``default_scope``.

    Raises:
        BadInput: If it is not mmdet, mmseg or mmpretrain.
    """
    scope: str = cfg.get('default_scope')
    what = f'{cfg.filename}: default_scope'
    check_one_of(what, scope, ('mmdet', 'mmseg', 'mmpretrain'))
    return scope


def input_size(cfg: Config) -> tuple[int, int]:
    """Height and width of a config's test input, in pixels.

    For a detector: the scale of Resize, padded, in landscape. For a
    segmentor: the size in its preprocessor. For a classifier: its crop.

    Raises:
        BadInput: If the config does not have it.
    """
    scope = library(cfg)
    size = None
    if scope == 'mmseg':
        size = cfg.model.get('data_preprocessor', {}).get('size')
    else:
        dataset = (cfg.get('test_dataloader') or {}).get('dataset', {})
        while 'pipeline' not in dataset and 'dataset' in dataset:
            dataset = dataset['dataset']
        for step in dataset.get('pipeline', []):
            if step.get('type') in ('Resize', 'CenterCrop'):
                size = step.get('scale') or step.get('crop_size')
    if size is None:
        raise BadInput(
            f'{cfg.filename} does not say the size of the input, expected a '
            'Resize or crop in its test pipeline; say it with --size '
            'HEIGHTxWIDTH'
        )
    size = (size, size) if isinstance(size, int) else tuple(size)
    if scope == 'mmdet':
        divisor = cfg.model.data_preprocessor.get('pad_size_divisor', 1)
        short, long = sorted(math.ceil(s / divisor) * divisor for s in size)
        return short, long
    return size


def twin_of(cfg: Config, conv_cfg: dict | None = None) -> Config:
    """A copy of a config, plain or with another conv type.

    ``conv_cfg`` replaces each one of the type ``KernelDNA``. Each key
    ``kernel_dna`` is removed. Each backbone of :mod:`mmkdna.backbones`
    becomes the class of mmpretrain that it extends.
    ``dict(type='KernelDNA')``, without an argument, changes nothing.
    """
    cfg = copy.deepcopy(cfg)
    if conv_cfg != dict(type='KernelDNA'):
        cfg.model = _switched(cfg.model.to_dict(), conv_cfg)
    return cfg


def _switched(node: Any, conv_cfg: dict | None) -> Any:
    if isinstance(node, (list, tuple)):
        return type(node)(_switched(item, conv_cfg) for item in node)
    if not isinstance(node, dict):
        return node
    node = {key: _switched(value, conv_cfg) for key, value in node.items()}
    node.pop('kernel_dna', None)
    kind = node.get('type', '')
    kind = getattr(kind, '__name__', str(kind).rpartition('.')[2])
    if extends := kind.startswith('KDNA'):
        node['type'] = 'mmpretrain.' + kind.removeprefix('KDNA')
    if extends or settings_of(node.get('conv_cfg')) is not None:
        node.pop('conv_cfg', None)
        if conv_cfg is not None:
            node['conv_cfg'] = dict(conv_cfg)
    return node


def build_model(cfg: Config) -> nn.Module:
    """The model of a config, able to run in one process on a CPU."""
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    model = copy.deepcopy(cfg.model)
    # Like mmengine's runner.
    if 'data_preprocessor' in cfg:
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    return revert_sync_batchnorm(MODELS.build(model))
