"""Check that the data and the weights of a config are on disk."""

import inspect
import json
import os
import os.path as osp
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

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
# Reading a larger one takes as long as starting to train on it.
_LARGEST_ANNOTATIONS = 100 * 2**20
_NUM_IMAGENET_CLASSES = 1000
_DATASET = {'ann_file', 'data_prefix', 'split'}
"""A dict with one of these keys is a dataset; wrappers have none of them."""


def prepare_data(cfg: Config, dataloaders: Sequence[str]) -> None:
    """Write the digit scenes a config asks for; check all other data.

    Args:
        cfg: A config; ``digit_scenes`` in it are the arguments of
            :func:`~mmkdna.datasets.digit_scenes.write_scenes`.
        dataloaders: The keys of ``cfg`` that will be used, such as
            ``['train_dataloader']``.

    Raises:
        FileNotFoundError: If a file or folder of a dataset is missing, a
            folder is empty or lacks files. The message says which, how to
            get it, and what runs without it.
    """
    if cfg.get('digit_scenes'):
        # Needs scikit-learn and pycocotools, which other data do not.
        from .digit_scenes import write_scenes

        write_scenes(**cfg.digit_scenes)
    for key in dataloaders:
        for where, node in _dicts(cfg.get(key), key):
            if '.pipeline.' not in where and not _DATASET.isdisjoint(node):
                for problem, setting in _problems(node):
                    what = f'{problem} ({where}{setting}).'
                    raise FileNotFoundError(_advice(what, key, node))


def check_pretrained(cfg: Config) -> None:
    """Check that the files that a model starts from exist.

    Raises:
        FileNotFoundError: If the checkpoint of an ``init_cfg``, or
            ``load_from``, is missing.
    """
    named = {
        f'{where}.checkpoint': node.get('checkpoint')
        for where, node in _dicts(cfg.model, 'model')
        if node.get('type') == 'Pretrained'
    }
    named['load_from'] = cfg.get('load_from')
    for setting, path in named.items():
        if path and '://' not in path and not osp.isfile(path):
            raise FileNotFoundError(
                f'{path} is missing ({setting}): the weights that training '
                'starts from. Its config says what writes it; another '
                f'checkpoint: --cfg-options {setting}=FILE'
            )


def _dicts(node: Any, where: str) -> Iterator[tuple[str, dict]]:
    """Each dict inside a config, with its dotted key."""
    inside: Iterable[tuple[Any, Any]] = ()
    if isinstance(node, dict):
        yield where, node
        inside = node.items()
    elif isinstance(node, (list, tuple)):
        inside = enumerate(node)
    for key, value in inside:
        yield from _dicts(value, f'{where}.{key}')


def _problems(dataset: dict) -> Iterator[tuple[str, str]]:
    """What is wrong with a dataset, and in which setting."""
    # With backend_args the files are in another storage: not checked.
    paths = {} if dataset.get('backend_args') else _paths(dataset)
    for setting, path in paths.items():
        if not osp.exists(path):
            yield f'{path} is missing', f'.{setting}'
        elif osp.isdir(path) and not os.listdir(path):
            yield f'{path} is empty', f'.{setting}'
    if paths and (lacks := _shortfall(dataset)):
        yield lacks, ''


def _paths(dataset: dict) -> dict[str, str]:
    """The local paths of a dataset, by their settings."""
    root = dataset.get('data_root') or ''
    prefix = dataset.get('data_prefix')
    named = {'ann_file': dataset.get('ann_file')}
    if isinstance(prefix, dict):
        named |= {f'data_prefix.{k}': v for k, v in prefix.items()}
    else:
        # mmpretrain's ImageNet names its folders by the split.
        key = 'data_prefix' if prefix else 'split'
        named[key] = dataset.get(key)
    return {
        setting: osp.join(root, value)
        for setting, value in named.items()
        if isinstance(value, str) and value and '://' not in root + value
    }


def _advice(problem: str, key: str, dataset: dict) -> str:
    root = dataset.get('data_root') or ''
    folders = osp.normpath(root.lower()).split(os.sep)
    ways = [how for name, how in _HOW_TO_GET.items() if name in folders]
    return '\n'.join(
        [
            problem,
            *(f'How to get it: {how.format(root)}' for how in ways),
            f'If you have it elsewhere: a link from there to {root}, or '
            f'--cfg-options {key}.dataset.data_root=/where/it/is',
            _RUNS_WITHOUT,
        ]
    )


def _shortfall(dataset: dict) -> str | None:
    """A sentence about files that a dataset lacks; None if it has all."""
    root = Path(dataset.get('data_root') or '')
    prefix = dataset.get('data_prefix') or dataset.get('split') or ''
    annotations = dataset.get('ann_file') or ''
    kind = str(dataset.get('type', '')).rpartition('.')[2]
    if isinstance(prefix, dict) and prefix.get('seg_map_path'):
        if annotations:
            return None
        images = root / (prefix.get('img_path') or '')
        labels = root / prefix['seg_map_path']
        return _without_label_map(images, labels, *_suffixes(dataset, kind))
    if isinstance(prefix, dict) and annotations.endswith('.json'):
        return _without_image(root / annotations, root / prefix.get('img', ''))
    if kind == 'ImageNet' and not annotations:
        found = sum(entry.is_dir() for entry in os.scandir(root / prefix))
        if found != _NUM_IMAGENET_CLASSES:
            return (
                f'{root / prefix} holds {found} folders, expected one for '
                f'each of the {_NUM_IMAGENET_CLASSES} classes'
            )
    return None


def _without_image(annotations: Path, images: Path) -> str | None:
    """A sentence about images of a COCO file that the folder lacks."""
    if annotations.stat().st_size > _LARGEST_ANNOTATIONS:
        return None
    try:
        listed = json.loads(annotations.read_text())
    except ValueError as error:
        return f'{annotations} is no JSON ({error})'
    # A list is another format: captions, questions.
    listed = listed.get('images', []) if isinstance(listed, dict) else []
    names = [image['file_name'] for image in listed]
    return _lacking(images, names, f'listed in {annotations}')


def _without_label_map(
    images: Path, labels: Path, image_suffix: str, label_suffix: str
) -> str | None:
    """A sentence about images of mmseg's datasets without label map."""
    names = [
        str(path.relative_to(images)).removesuffix(image_suffix) + label_suffix
        for path in sorted(images.rglob(f'*{image_suffix}'))
    ]
    if not names:
        return f'{images} holds no image that ends in {image_suffix}'
    return _lacking(labels, names, f'for the images in {images}')


def _lacking(folder: Path, names: list[str], why: str) -> str | None:
    lacking = [name for name in names if not (folder / name).is_file()]
    if not lacking:
        return None
    numbers = f'{len(lacking)} of the {len(names)}'
    return f'{folder} lacks {numbers} files {why}, such as {lacking[0]}'


def _suffixes(dataset: dict, kind: str) -> Iterator[str]:
    """Endings of images and label maps: of the config, or of its class."""
    from mmseg.registry import DATASETS

    defaults = inspect.signature(DATASETS.get(kind)).parameters
    for key, usual in (('img_suffix', '.jpg'), ('seg_map_suffix', '.png')):
        default = getattr(defaults.get(key), 'default', usual)
        yield str(dataset.get(key) or default)
