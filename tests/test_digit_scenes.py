"""The digit scenes: real COCO data, the same for everyone, written whole."""

import json
import multiprocessing

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from mmkdna.datasets import digit_scenes
from mmkdna.datasets.digit_scenes import load_glyphs, write_scenes

SMALL = dict(num_train=6, num_val=4, image_size=96, max_glyph=40)


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp('data') / 'digits', **SMALL)


def test_no_glyph_is_in_both_splits():
    train, val = (load_glyphs(split)[0] for split in ('train', 'val'))
    assert len(train) + len(val) == 1797
    digits = {g.tobytes() for g in train}
    assert len(digits & {g.tobytes() for g in val}) == 0
    assert set(load_glyphs('val')[1]) == set(range(10))


def test_unknown_split_is_refused():
    with pytest.raises(ValueError, match="split='test'"):
        load_glyphs('test')


@pytest.mark.parametrize(('split', 'count'), [('train', 6), ('val', 4)])
def test_annotations_agree_with_images_and_label_maps(scenes, split, count):
    coco = COCO(str(scenes / 'annotations' / f'instances_{split}.json'))
    assert len(coco.getImgIds()) == count
    for image in coco.loadImgs(coco.getImgIds()):
        name = f'{split}/{image["file_name"]}'
        picture = cv2.imread(f'{scenes}/images/{name}')
        assert picture.shape == (96, 96, 3)
        annotations = coco.loadAnns(coco.getAnnIds(image['id']))
        assert 2 <= len(annotations) <= 6
        expected = np.zeros((96, 96), np.uint8)
        for annotation in annotations:
            mask = coco.annToMask(annotation).astype(bool)
            assert mask.sum() == annotation['area']
            rows, columns = np.nonzero(mask)
            x, y, w, h = annotation['bbox']
            assert (x, y) == (columns.min(), rows.min())
            assert (x + w, y + h) == (columns.max() + 1, rows.max() + 1)
            assert not expected[mask].any(), 'digits overlap'
            label = coco.loadCats(annotation['category_id'])[0]['name']
            expected[mask] = int(label) + 1
        label_map = cv2.imread(f'{scenes}/labels/{name}', cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(label_map, expected)


def test_a_crop_is_the_window_of_its_scene_around_one_digit(scenes):
    coco = COCO(str(scenes / 'annotations/instances_val.json'))
    crops = sorted((scenes / 'crops/val').glob('*/*.png'))
    assert len(crops) == len(coco.getAnnIds())
    for path in crops:
        index, number = map(int, path.stem.split('_'))
        annotation = coco.loadAnns(coco.getAnnIds(index))[number]
        label = coco.loadCats(annotation['category_id'])[0]['name']
        assert path.parent.name == label
        crop = cv2.imread(str(path))
        scene = cv2.imread(f'{scenes}/images/val/{index:06d}.png')
        differences = cv2.matchTemplate(scene, crop, cv2.TM_SQDIFF)
        # Where, not how much: the least difference is rounded by a machine
        # of its own (0 on one, 12 on another).
        _, _, (left, top), _ = cv2.minMaxLoc(differences)
        height, width = crop.shape[:2]
        window = scene[top : top + height, left : left + width]
        np.testing.assert_array_equal(window, crop)
        x, y, w, h = annotation['bbox']
        assert left <= x
        assert top <= y
        assert left + width >= x + w
        assert top + height >= y + h


def all_bytes(root):
    return {
        path.relative_to(root): path.read_bytes()
        for path in root.rglob('*')
        if path.is_file()
    }


def test_equal_specs_give_equal_bytes_and_another_seed_others(
    scenes, tmp_path
):
    again = all_bytes(write_scenes(tmp_path / 'again', **SMALL))
    assert again == all_bytes(scenes)
    other = all_bytes(write_scenes(tmp_path / 'other', seed=1, **SMALL))
    assert other.keys() != again.keys()  # the crops: other digits
    assert all(
        other[path] != again[path]
        for path in again
        if path.parts[0] == 'images'
    )


def test_scenes_are_written_once(scenes):
    before = {p: p.stat().st_mtime_ns for p in scenes.rglob('*')}
    write_scenes(scenes, **SMALL)
    assert {p: p.stat().st_mtime_ns for p in scenes.rglob('*')} == before


def test_folder_with_something_else_is_left_alone(scenes, tmp_path):
    with pytest.raises(FileExistsError, match='num_train'):
        write_scenes(scenes, **{**SMALL, 'num_train': 7})
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'photo.png').write_bytes(b'mine')
    with pytest.raises(FileExistsError, match='holds no digit scenes'):
        write_scenes(tmp_path / 'mine', **SMALL)
    assert (tmp_path / 'mine' / 'photo.png').read_bytes() == b'mine'


def test_interrupted_writing_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(digit_scenes, '_encode', interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_scenes(tmp_path / 'digits', **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_processes_that_write_at_once_agree(tmp_path):
    root = tmp_path / 'digits'
    context = multiprocessing.get_context('fork')
    processes = [
        context.Process(target=write_scenes, args=(root,), kwargs=SMALL)
        for _ in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ['digits']
    assert json.loads((root / 'spec.json').read_text())['num_train'] == 6


@pytest.mark.parametrize(
    ('wrong', 'named'),
    [
        (dict(num_train=0), 'num_train=0'),
        (dict(num_val=-1), 'num_val=-1'),
        (dict(min_digits=0), 'min_digits=0'),
        (dict(min_digits=5, max_digits=4), 'max_digits=4'),
        (dict(image_size=64), r'image_size=\(32, 64, 64\)'),
        (dict(min_glyph=4), r'image_size=\(4, 64, 160\)'),
        (dict(seed=-1), 'seed=-1'),
    ],
)
def test_impossible_scenes_are_refused(wrong, named, tmp_path):
    with pytest.raises(ValueError, match=named):
        write_scenes(tmp_path / 'digits', **wrong)
    assert list(tmp_path.iterdir()) == []


def test_too_many_digits_for_the_image_are_refused(tmp_path):
    with pytest.raises(ValueError, match='expected room for min_digits=30'):
        write_scenes(
            tmp_path / 'd', **{**SMALL, 'min_digits': 30, 'max_digits': 30}
        )
    assert list(tmp_path.iterdir()) == []
