"""Whether the data of a config is there, before a runner is built."""

import os.path as osp
from collections.abc import Iterator, Sequence

from mmengine.config import Config

_HOW_TO_GET = {
    'coco': 'COCO 2017 (https://cocodataset.org/#download): train2017.zip, '
    'val2017.zip and annotations_trainval2017.zip, unpacked into {}'
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
        FileNotFoundError: If a file or folder of a dataset is missing. The
            message says which, how to get it, and what runs without.
    """
    if 'digit_scenes' in cfg:
        # Needs scikit-learn and pycocotools, which other data do not.
        from .digit_scenes import write_scenes

        write_scenes(**cfg.digit_scenes)
    for key in dataloaders:
        for where, dataset in _datasets(cfg.get(key), key):
            for setting, path in _paths(dataset):
                if not osp.exists(path):
                    raise FileNotFoundError(
                        _message(path, f'{where}.{setting}', dataset)
                    )


def _datasets(node: object, where: str) -> Iterator[tuple[str, dict]]:
    """The innermost datasets under a dataloader, wrappers looked through."""
    if isinstance(node, dict):
        if 'ann_file' in node or 'data_prefix' in node:
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
    else:
        named += [('data_prefix', prefix)]
    for setting, value in named:
        if isinstance(value, str) and value and '://' not in root + value:
            yield setting, osp.join(root, value)


def _message(path: str, setting: str, dataset: dict) -> str:
    root = dataset.get('data_root') or osp.dirname(path)
    lines = [f'{path} is missing ({setting}).']
    for name, how in _HOW_TO_GET.items():
        if name in root.lower():
            lines.append('How to get it: ' + how.format(root))
    lines += [
        'If you have it elsewhere: a link from there to '
        f'{root}, or --cfg-options {setting.split(".")[0]}.dataset.data_root='
        '/where/it/is',
        _RUNS_WITHOUT,
    ]
    return '\n'.join(lines)
