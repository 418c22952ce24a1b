"""Whether what a config needs is on disk, before a runner is built."""

import os
import os.path as osp
from collections.abc import Iterator, Sequence

from mmengine.config import Config

from .whole import shortfall

_HOW_TO_GET = {
    'coco': 'COCO 2017 (https://cocodataset.org/#download): train2017.zip, '
    'val2017.zip and annotations_trainval2017.zip, unpacked into {}',
    'ade': 'ADE20K scene parsing (http://sceneparsing.csail.mit.edu): '
    'ADEChallengeData2016.zip, unpacked to {}',
    'cityscapes': 'Cityscapes (https://www.cityscapes-dataset.com/downloads): '
    'leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip, unpacked into '
    '{}; then csCreateTrainIdLabelImgs of cityscapesScripts makes the '
    'labelTrainIds',
    'imagenet': 'ImageNet-1k (https://image-net.org/download.php), train and '
    'val in a folder for each class, in {}',
}
_RUNS_WITHOUT = (
    'Runs without any download:\n'
    '  python tools/train.py configs/digits/kdna_maskrcnn_r18.py'
)


def prepare_data(cfg: Config, dataloaders: Sequence[str]) -> None:
    """Write the digit scenes a config asks for; check all other data.

    Args:
        cfg: A config; ``digit_scenes`` in it are the arguments of
            :func:`~mmkdna.datasets.digit_scenes.write_scenes`.
        dataloaders: The keys of ``cfg`` that will be used, such as
            ``['train_dataloader']``.

    Raises:
        FileNotFoundError: If a file or folder of a dataset is missing, a
            folder is empty or files in it are missing. The message says
            which, how to get it, and what runs without.
    """
    if cfg.get('digit_scenes'):
        # Needs scikit-learn and pycocotools, which other data do not.
        from .digit_scenes import write_scenes

        write_scenes(**cfg.digit_scenes)
    for key in dataloaders:
        for where, dataset in _datasets(cfg.get(key), key):
            paths = dict(_paths(dataset))
            for setting, path in paths.items():
                if problem := _unusable(path):
                    raise _missing(
                        f'{path} {problem} ({where}.{setting}).', key, dataset
                    )
            if paths and (problem := shortfall(dataset)):
                raise _missing(f'{problem} ({where}).', key, dataset)


def check_pretrained(cfg: Config) -> None:
    """Check that the weights a model starts from exist, where they are files.

    Raises:
        FileNotFoundError: If the checkpoint of an ``init_cfg``, or
            ``load_from``, is missing.
    """
    named = list(_checkpoints(cfg.model, 'model'))
    if cfg.get('load_from'):
        named.append(('load_from', cfg.load_from))
    for setting, path in named:
        if '://' not in path and not osp.isfile(path):
            raise FileNotFoundError(
                f'{path} is missing ({setting}): the weights that training '
                'starts from. Its config says what writes it; another '
                f'checkpoint: --cfg-options {setting}=FILE'
            )


def _checkpoints(node: object, where: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, dict):
        if node.get('type') == 'Pretrained' and node.get('checkpoint'):
            yield f'{where}.checkpoint', node['checkpoint']
        for key, value in node.items():
            yield from _checkpoints(value, f'{where}.{key}')
    elif isinstance(node, (list, tuple)):
        for i, item in enumerate(node):
            yield from _checkpoints(item, f'{where}.{i}')


def _datasets(node: object, where: str) -> Iterator[tuple[str, dict]]:
    """The innermost datasets under a dataloader, wrappers looked through."""
    if isinstance(node, dict):
        if {'ann_file', 'data_prefix', 'split'} & set(node):
            yield where, node
            return
        for key in ('dataset', 'datasets'):
            yield from _datasets(node.get(key), f'{where}.{key}')
    elif isinstance(node, (list, tuple)):
        for i, item in enumerate(node):
            yield from _datasets(item, f'{where}[{i}]')


def _paths(dataset: dict) -> Iterator[tuple[str, str]]:
    """Local paths of a dataset; what another storage holds is not checked."""
    if dataset.get('backend_args'):
        return
    root = dataset.get('data_root') or ''
    named = [('ann_file', dataset.get('ann_file'))]
    prefix = dataset.get('data_prefix')
    if isinstance(prefix, dict):
        named += [(f'data_prefix.{k}', v) for k, v in prefix.items()]
    elif prefix:
        named += [('data_prefix', prefix)]
    else:
        # mmpretrain's ImageNet names its folders by the split.
        named += [('split', dataset.get('split'))]
    for setting, value in named:
        if isinstance(value, str) and value and '://' not in root + value:
            yield setting, osp.join(root, value)


def _unusable(path: str) -> str | None:
    if not osp.exists(path):
        return 'is missing'
    if osp.isdir(path) and not any(os.scandir(path)):
        return 'is empty'
    return None


def _missing(problem: str, key: str, dataset: dict) -> FileNotFoundError:
    root = dataset.get('data_root') or ''
    lines = [problem]
    for name, how in _HOW_TO_GET.items():
        if name in osp.normpath(root.lower()).split(os.sep):
            lines.append('How to get it: ' + how.format(root))
    lines += [
        'If you have it elsewhere: a link from there to '
        f'{root}, or --cfg-options {key}.dataset.data_root=/where/it/is',
        _RUNS_WITHOUT,
    ]
    return FileNotFoundError('\n'.join(lines))
