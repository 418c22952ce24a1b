"""Scenes of handwritten digits for detection, segmentation, classification.

The glyphs are scikit-learn's ``load_digits`` (E. Alpaydin and C. Kaynak,
*Optical Recognition of Handwritten Digits*, UCI Machine Learning Repository,
1998): 1,797 real digits of 8 x 8 pixels that ship inside the package, so a
detector, a segmentor or a classifier can be trained and scored where no data
set can be downloaded.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import mmcv
import mmengine
import numpy as np
from mmengine.logging import print_log
from pycocotools import mask as coco_mask
from rich.progress import track
from sklearn.datasets import load_digits

from ..errors import check, check_int, check_one_of
from ..files import made_beside

CLASSES = tuple('0123456789')
SPLITS = ('train', 'val')
_VAL_FRACTION = 0.2
_PLACEMENT_TRIES = 30
_CROP_MARGIN = 0.15


@dataclass(frozen=True)
class SceneSpec:
    """The settings of a set of scenes; equal settings give equal files.

    Raises:
        BadInput: If a setting is out of its range.
    """

    num_train: int = 1000
    num_val: int = 100
    image_size: int = 160  # height and width of a scene, in pixels
    min_digits: int = 2  # in a scene
    max_digits: int = 6
    min_glyph: int = 32  # height, in pixels
    max_glyph: int = 64
    max_rotation: float = 25.0  # either way, in degrees
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ('num_train', 'num_val', 'min_digits'):
            check_int(name, getattr(self, name), 1)
        check_int('seed', self.seed, 0)
        check_int('max_digits', self.max_digits, self.min_digits)
        sizes = self.min_glyph, self.max_glyph, self.image_size
        holds = 8 <= sizes[0] <= sizes[1] < sizes[2]
        names = 'min_glyph, max_glyph, image_size'
        check(names, sizes, holds, '8 <= the first <= the second < the third')


def load_glyphs(split: str) -> tuple[np.ndarray, np.ndarray]:
    """The glyphs of ``'train'`` or ``'val'``; the two share none.

    Returns:
        Glyphs ``(N, 8, 8)`` of float32 in [0, 1], ink is 1, and labels
        ``(N, )``.
    """
    check_one_of('split', split, SPLITS)
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    num_val = round(_VAL_FRACTION * len(order))
    chosen = order[:num_val] if split == 'val' else order[num_val:]
    glyphs = (digits.images[chosen] / 16).astype(np.float32)
    return glyphs, digits.target[chosen]


def _background(rng: np.random.Generator, size: int) -> np.ndarray:
    """A smooth colour field ``(size, size, 3)`` of float32 in [0, 255]."""
    grid = rng.uniform(20, 235, (3, 3, 3)).astype(np.float32)
    field = cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
    return np.clip(field, 0, 255)


def _draw_glyph(
    rng: np.random.Generator, glyph: np.ndarray, spec: SceneSpec
) -> np.ndarray:
    """The ink ``(h, w)`` in [0, 1] of a glyph, scaled, rotated, cropped."""
    size = int(rng.integers(spec.min_glyph, spec.max_glyph + 1))
    margin = size // 4
    ink = cv2.resize(glyph, (size, size), interpolation=cv2.INTER_CUBIC)
    angle = rng.uniform(-spec.max_rotation, spec.max_rotation)
    ink = mmcv.imrotate(np.pad(ink, margin), -angle)
    # Sharpen the edge that the enlarged glyph has, so that masks are clear.
    ink = np.clip((ink - 0.25) / 0.35, 0, 1)
    rows, columns = np.nonzero(ink > 0.5)
    return ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


def _ink_colour(rng: np.random.Generator, paper: np.ndarray) -> np.ndarray:
    """A colour unlike the mean colour of the background."""
    mean = paper.reshape(-1, 3).mean(0)
    while True:
        colour = rng.uniform(0, 255, 3)
        if np.abs(colour - mean).max() > 100:
            return colour


def _compose_scene(
    rng: np.random.Generator,
    glyphs: np.ndarray,
    labels: np.ndarray,
    spec: SceneSpec,
) -> tuple[np.ndarray, list[tuple[int, np.ndarray]]]:
    """One scene; the boxes of its digits do not overlap.

    Returns:
        The image ``(H, W, 3)`` of uint8 in BGR, and for each digit its label
        and its mask ``(H, W)`` of bool.
    """
    size = spec.image_size
    image = _background(rng, size)
    taken = np.zeros((size, size), bool)
    instances: list[tuple[int, np.ndarray]] = []
    wanted = int(rng.integers(spec.min_digits, spec.max_digits + 1))
    for _ in range(_PLACEMENT_TRIES * wanted):
        if len(instances) == wanted:
            break
        index = int(rng.integers(len(glyphs)))
        ink = _draw_glyph(rng, glyphs[index], spec)
        height, width = ink.shape
        if max(height, width) > size:
            continue
        top = int(rng.integers(0, size - height + 1))
        left = int(rng.integers(0, size - width + 1))
        window = np.s_[top : top + height, left : left + width]
        if taken[window].any():
            continue
        colour = _ink_colour(rng, image[window])
        alpha = ink[..., None]
        image[window] = image[window] * (1 - alpha) + colour * alpha
        mask = np.zeros((size, size), bool)
        mask[window] = ink > 0.5
        taken[window] = True
        instances.append((int(labels[index]), mask))
    check(
        'image_size',
        size,
        len(instances) >= spec.min_digits,
        f'room for min_digits={spec.min_digits} of up to max_glyph='
        f'{spec.max_glyph} pixels; a smaller max_glyph helps, too',
    )
    noise = rng.normal(0, 4, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8), instances


def _crop(image: np.ndarray, box: list[float]) -> np.ndarray:
    """The square around a box, with a margin inside of the image."""
    x, y, width, height = box
    half = (max(width, height) - 1) * (0.5 + _CROP_MARGIN)
    rows, columns = (
        slice(max(0, int(centre - half)), int(centre + half + 1))
        for centre in (y + height / 2, x + width / 2)
    )
    return image[rows, columns]


def _encode(mask: np.ndarray) -> dict:
    """A COCO annotation's geometry: RLE, box ``(x, y, w, h)``, area."""
    rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return dict(
        segmentation=dict(size=rle['size'], counts=rle['counts'].decode()),
        bbox=coco_mask.toBbox(rle).tolist(),
        area=float(coco_mask.area(rle)),
        iscrowd=0,
    )


def _write_split(root: Path, split: str, spec: SceneSpec) -> None:
    glyphs, labels = load_glyphs(split)
    # A class without digits needs its folder, too.
    for name in CLASSES:
        (root / 'crops' / split / name).mkdir(parents=True)
    images: list[dict] = []
    annotations: list[dict] = []
    size, count = spec.image_size, getattr(spec, f'num_{split}')
    for index in track(range(count), f'digit scenes, {split}'):
        rng = np.random.default_rng([spec.seed, SPLITS.index(split), index])
        image, instances = _compose_scene(rng, glyphs, labels, spec)
        name = f'{index:06d}.png'
        label_map = np.zeros(image.shape[:2], np.uint8)
        pictures = {
            root / 'images' / split / name: image,
            root / 'labels' / split / name: label_map,
        }
        for number, (label, mask) in enumerate(instances):
            label_map[mask] = label + 1
            ids = dict(id=len(annotations) + 1, image_id=index)
            ids['category_id'] = label + 1
            annotations.append({**ids, **_encode(mask)})
            crop = f'{CLASSES[label]}/{index:06d}_{number}.png'
            path = root / 'crops' / split / crop
            pictures[path] = _crop(image, annotations[-1]['bbox'])
        for path, picture in pictures.items():
            mmcv.imwrite(picture, str(path))
        images.append(dict(id=index, file_name=name, height=size, width=size))
    coco = dict(
        info=dict(description='mmkdna digit scenes', **asdict(spec)),
        images=images,
        annotations=annotations,
        categories=[dict(id=int(n) + 1, name=n) for n in CLASSES],
    )
    mmengine.dump(coco, root / f'annotations/instances_{split}.json')


def write_scenes(root: str | os.PathLike, **spec) -> Path:
    """Write the scenes; a second call with the same settings does nothing.

    The folder gets its name only when it is complete::

        root/spec.json
        root/images/{train,val}/000000.png       scenes
        root/labels/{train,val}/000000.png       0 background, digit + 1
        root/crops/{train,val}/0/000000_0.png    one digit each
        root/annotations/instances_{train,val}.json   COCO boxes and masks

    Args:
        root: The folder to make.
        **spec: Arguments of :class:`SceneSpec`.

    Raises:
        BadInput: If the spec is impossible.
        FileExistsError: If ``root`` holds something else.
    """
    root, wanted = Path(root), SceneSpec(**spec)
    # 2 is the layout of the folders.
    described = {**asdict(wanted), 'layout': 2}
    if _holds(root, described):
        return root
    print_log(
        f'Composing {wanted.num_train} + {wanted.num_val} digit scenes '
        f'in {root} (a few seconds, once)',
        'current',
    )
    try:
        with made_beside(root) as folder:
            for split in SPLITS:
                _write_split(Path(folder), split, wanted)
            mmengine.dump(described, Path(folder, 'spec.json'))
    except OSError:
        # Another process was faster: its scenes are the same ones.
        if not _holds(root, described):
            raise
    return root


def _holds(root: Path, spec: dict) -> bool:
    """Whether a folder holds the scenes of a spec."""
    if not root.exists() or root.is_dir() and not any(root.iterdir()):
        return False
    try:
        found = json.loads((root / 'spec.json').read_text())
    except (OSError, ValueError):
        found = None
    if found != spec:
        raise FileExistsError(
            f'{root} exists and holds {found or "no digit scenes"}, expected '
            f'{spec}; move it away or choose another folder'
        )
    return True
