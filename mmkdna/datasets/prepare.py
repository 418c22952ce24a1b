"""Whether what a config needs is on disk, before a runner is built."""

import inspect
import json
import os
import os.path as osp
from collections.abc import Iterator, Sequence
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
            get it, and what runs without.
    """
    if cfg.get('digit_scenes'):
        # Needs scikit-learn and pycocotools, which other data do not.
        from .digit_scenes import write_scenes

        write_scenes(**cfg.digit_scenes)
    for key in dataloaders:
        for where, dataset in _datasets(cfg.get(key), key):
            if problem := _problem(dataset, where):
                raise FileNotFoundError(_advice(problem, key, dataset))


def check_pretrained(cfg: Config) -> None:
    """Check that the weights a model starts from exist, where they are files.

    Raises:
        FileNotFoundError: If the checkpoint of an ``init_cfg``, or
            ``load_from``, is missing.
    """
    named = [*_checkpoints(cfg.model, 'model')]
    named += [('load_from', cfg.get('load_from'))]
    for setting, path in named:
        if path and '://' not in path and not osp.isfile(path):
            raise FileNotFoundError(
                f'{path} is missing ({setting}): the weights that training '
                'starts from. Its config says what writes it; another '
                f'checkpoint: --cfg-options {setting}=FILE'
            )


def _items(node: object, where: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        yield from ((f'{where}.{key}', value) for key, value in node.items())
    elif isinstance(node, (list, tuple)):
        yield from ((f'{where}.{i}', item) for i, item in enumerate(node))


def _checkpoints(node: Any, where: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, dict) and node.get('type') == 'Pretrained':
        yield f'{where}.checkpoint', node.get('checkpoint', '')
    for inner, value in _items(node, where):
        yield from _checkpoints(value, inner)


def _datasets(node: Any, where: str) -> Iterator[tuple[str, dict]]:
    """The innermost datasets under a dataloader, wrappers looked through."""
    if isinstance(node, dict) and {'ann_file', 'data_prefix', 'split'} & {
        *node
    }:
        yield where, node
        return
    for inner, value in _items(node, where):
        if isinstance(node, (list, tuple)) or inner.endswith(
            ('.dataset', '.datasets')
        ):
            yield from _datasets(value, inner)


def _problem(dataset: dict, where: str) -> str | None:
    """What is wrong with a dataset; None where nothing is seen."""
    paths = dict(_paths(dataset))
    for setting, path in paths.items():
        if not osp.exists(path):
            return f'{path} is missing ({where}.{setting}).'
        if osp.isdir(path) and not any(os.scandir(path)):
            return f'{path} is empty ({where}.{setting}).'
    lacks = _shortfall(dataset) if paths else None
    return lacks and f'{lacks} ({where}).'


def _paths(dataset: dict) -> Iterator[tuple[str, str]]:
    """Local paths of a dataset; what another storage holds is not checked."""
    if dataset.get('backend_args'):
        return
    root = dataset.get('data_root') or ''
    prefix = dataset.get('data_prefix')
    named = {'ann_file': dataset.get('ann_file')}
    if isinstance(prefix, dict):
        named |= {f'data_prefix.{k}': v for k, v in prefix.items()}
    elif prefix:
        named['data_prefix'] = prefix
    else:
        # mmpretrain's ImageNet names its folders by the split.
        named['split'] = dataset.get('split')
    for setting, value in named.items():
        if isinstance(value, str) and value and '://' not in root + value:
            yield setting, osp.join(root, value)


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
    """What a dataset lacks, as far as its listings can tell."""
    root = dataset.get('data_root') or ''
    prefix = dataset.get('data_prefix')
    annotations = dataset.get('ann_file') or ''
    kind = str(dataset.get('type', '')).rpartition('.')[2]
    if isinstance(prefix, dict) and prefix.get('seg_map_path'):
        if annotations:
            return None
        images = Path(root, prefix.get('img_path') or '')
        labels = Path(root, prefix['seg_map_path'])
        return _without_label_map(images, labels, *_suffixes(dataset, kind))
    if isinstance(prefix, dict) and annotations.endswith('.json'):
        images = Path(root, prefix.get('img', ''))
        return _without_image(Path(root, annotations), images)
    if kind == 'ImageNet' and not annotations:
        folder = osp.join(root, prefix or dataset.get('split') or '')
        found = sum(entry.is_dir() for entry in os.scandir(folder))
        if found != _NUM_IMAGENET_CLASSES:
            return (
                f'{folder} holds {found} folders, expected one for each of '
                f'the {_NUM_IMAGENET_CLASSES} classes'
            )
    return None


def _without_image(annotations: Path, images: Path) -> str | None:
    """Images that a COCO file lists and its folder lacks."""
    if annotations.stat().st_size > _LARGEST_ANNOTATIONS:
        return None
    try:
        listed = json.loads(annotations.read_text()).get('images', [])
    except ValueError as error:
        return f'{annotations} is no JSON ({error})'
    names = [image['file_name'] for image in listed]
    present = {*os.listdir(images)}
    lacking = [n for n in names if not osp.dirname(n) and n not in present]
    return _counted(lacking, len(names), images, f'listed in {annotations}')


def _without_label_map(
    images: Path, labels: Path, image_suffix: str, label_suffix: str
) -> str | None:
    """Images of mmseg's datasets whose label map is not there."""
    names = [
        str(path.relative_to(images)).removesuffix(image_suffix) + label_suffix
        for path in sorted(images.rglob(f'*{image_suffix}'))
    ]
    if not names:
        return f'{images} holds no image that ends in {image_suffix}'
    lacking = [name for name in names if not (labels / name).is_file()]
    return _counted(lacking, len(names), labels, f'for the images in {images}')


def _suffixes(dataset: dict, kind: str) -> Iterator[str]:
    """Endings of images and label maps, as config or class says."""
    from mmseg.registry import DATASETS

    defaults = inspect.signature(DATASETS.get(kind)).parameters
    for key, usual in (('img_suffix', '.jpg'), ('seg_map_suffix', '.png')):
        default = getattr(defaults.get(key), 'default', usual)
        yield str(dataset.get(key) or default)


def _counted(
    lacking: list[str], total: int, folder: Path, why: str
) -> str | None:
    if not lacking:
        return None
    return (
        f'{folder} lacks {len(lacking)} of the {total} files {why}, such as '
        f'{lacking[0]}'
    )
