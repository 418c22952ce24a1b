"""Whether a dataset on disk is whole, as far as its listings can tell."""

import inspect
import json
import os
import os.path as osp
from pathlib import Path

# Reading a larger one takes as long as starting to train on it.
_LARGEST_ANNOTATIONS = 100 * 2**20
_NUM_IMAGENET_CLASSES = 1000


def shortfall(dataset: dict) -> str | None:
    """What a dataset lacks; None where nothing is seen to be missing.

    Args:
        dataset: The config of a dataset whose folders exist.
    """
    root = dataset.get('data_root') or ''
    prefix = dataset.get('data_prefix')
    annotations = dataset.get('ann_file') or ''
    if isinstance(prefix, dict) and prefix.get('seg_map_path'):
        if annotations:
            return None
        return _without_label_map(
            dataset,
            Path(root, prefix.get('img_path') or ''),
            Path(root, prefix['seg_map_path']),
        )
    if isinstance(prefix, dict) and annotations.endswith('.json'):
        return _without_image(
            osp.join(root, annotations), osp.join(root, prefix.get('img', ''))
        )
    if _kind(dataset) == 'ImageNet' and not annotations:
        folder = osp.join(root, prefix or dataset.get('split') or '')
        found = sum(entry.is_dir() for entry in os.scandir(folder))
        if found != _NUM_IMAGENET_CLASSES:
            return (
                f'{folder} holds {found} folders, expected one for each of '
                f'the {_NUM_IMAGENET_CLASSES} classes'
            )
    return None


def _kind(dataset: dict) -> str:
    return str(dataset.get('type', '')).split('.')[-1]


def _without_image(annotations: str, images: str) -> str | None:
    """Images that a COCO file lists and its folder lacks."""
    if osp.getsize(annotations) > _LARGEST_ANNOTATIONS:
        return None
    try:
        listed = json.loads(Path(annotations).read_text()).get('images', [])
    except ValueError as error:
        return f'{annotations} is no JSON ({error})'
    present = set(os.listdir(images))
    lacking = [
        image['file_name']
        for image in listed
        if osp.dirname(image['file_name']) == ''
        and image['file_name'] not in present
    ]
    return _counted(lacking, len(listed), images, f'listed in {annotations}')


def _without_label_map(
    dataset: dict, images: Path, labels: Path
) -> str | None:
    """Images of mmseg's datasets whose label map is not there."""
    image_suffix, label_suffix = _suffixes(dataset)
    names = [
        str(path.relative_to(images)).removesuffix(image_suffix)
        for path in sorted(images.rglob(f'*{image_suffix}'))
    ]
    if not names:
        return f'{images} holds no image that ends in {image_suffix}'
    lacking = [
        name + label_suffix
        for name in names
        if not (labels / (name + label_suffix)).is_file()
    ]
    return _counted(
        lacking, len(names), str(labels), f'for the images in {images}'
    )


def _suffixes(dataset: dict) -> tuple[str, str]:
    """Endings of images and label maps, as config or class says."""
    from mmseg.registry import DATASETS

    defaults = inspect.signature(DATASETS.get(_kind(dataset))).parameters

    def ending(key: str, otherwise: str) -> str:
        default = getattr(defaults.get(key), 'default', otherwise)
        return str(dataset.get(key) or default)

    return ending('img_suffix', '.jpg'), ending('seg_map_suffix', '.png')


def _counted(
    lacking: list[str], total: int, folder: str, why: str
) -> str | None:
    if not lacking:
        return None
    return (
        f'{folder} lacks {len(lacking)} of the {total} files {why}, such as '
        f'{lacking[0]}'
    )
