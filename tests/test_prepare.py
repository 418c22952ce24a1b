"""Data that is missing, empty or half there is one sentence."""

import json

import pytest
from mmengine.config import Config

from mmkdna.datasets import check_pretrained, prepare_data


def check(dataset):
    prepare_data(Config(dict(loader=dict(dataset=dataset))), ['loader'])


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def segmentation(root, **changes):
    return dict(
        type='ADE20KDataset',
        data_root=str(root),
        data_prefix=dict(img_path='images', seg_map_path='labels'),
        **changes,
    )


def test_whole_datasets_pass(tmp_path):
    touch(tmp_path, 'images/a.jpg', 'labels/a.png', 'images/b.txt')
    check(segmentation(tmp_path))
    (tmp_path / 'a.json').write_text(
        json.dumps(dict(images=[dict(file_name='a.jpg')]))
    )
    check(
        dict(
            type='CocoDataset',
            data_root=str(tmp_path),
            ann_file='a.json',
            data_prefix=dict(img='images/'),
        )
    )


def test_empty_folder_is_named(tmp_path):
    touch(tmp_path, 'labels/a.png')
    (tmp_path / 'images').mkdir()
    with pytest.raises(FileNotFoundError, match='images is empty'):
        check(segmentation(tmp_path))


def test_images_of_another_kind_are_none(tmp_path):
    touch(tmp_path, 'images/a.bmp', 'labels/a.png')
    with pytest.raises(FileNotFoundError, match='no image that ends in .jpg'):
        check(segmentation(tmp_path))


def test_missing_label_maps_are_counted(tmp_path):
    touch(tmp_path, 'images/a.jpg', 'images/b.jpg', 'labels/a.png')
    with pytest.raises(
        FileNotFoundError, match=r'labels lacks 1 of the 2 files.*b\.png'
    ):
        check(segmentation(tmp_path))


def test_cityscapes_without_train_ids_says_how_to_make_them(tmp_path):
    root = tmp_path / 'cityscapes'
    touch(
        root,
        'images/aachen/aachen_0_leftImg8bit.png',
        'labels/aachen/aachen_0_gtFine_labelIds.png',
    )
    dataset = {**segmentation(root), 'type': 'CityscapesDataset'}
    with pytest.raises(
        FileNotFoundError, match='aachen_0_gtFine_labelTrainIds.png'
    ) as caught:
        check(dataset)
    assert 'csCreateTrainIdLabelImgs' in str(caught.value)


def test_coco_images_that_are_not_there_are_counted(tmp_path):
    touch(tmp_path, 'images/a.jpg')
    (tmp_path / 'a.json').write_text(
        json.dumps(dict(images=[dict(file_name=n) for n in ('a', 'sub/b')]))
    )
    dataset = dict(
        type='CocoDataset',
        data_root=str(tmp_path),
        ann_file='a.json',
        data_prefix=dict(img='images/'),
    )
    with pytest.raises(FileNotFoundError, match='lacks 2 of the 2 files'):
        check(dataset)
    (tmp_path / 'a.json').write_text('{"images": [')
    with pytest.raises(FileNotFoundError, match=r'a\.json is no JSON'):
        check(dataset)
    # Captions and questions are lists, and not read.
    (tmp_path / 'a.json').write_text('[{"caption": "a"}]')
    check(dataset)


def test_imagenet_needs_each_of_its_classes(tmp_path):
    dataset = dict(type='ImageNet', data_root=str(tmp_path), split='train')
    with pytest.raises(FileNotFoundError, match=r'train is missing .*split'):
        check(dataset)
    touch(tmp_path, 'train/n01440764/a.JPEG')
    with pytest.raises(FileNotFoundError, match='holds 1 folders, expected'):
        check(dataset)


def test_weights_to_start_from_must_exist(tmp_path):
    def config(checkpoint):
        init_cfg = dict(type='Pretrained', checkpoint=checkpoint)
        return Config(dict(model=dict(backbone=dict(init_cfg=init_cfg))))

    weights = tmp_path / 'epoch_300.pth'
    with pytest.raises(
        FileNotFoundError, match='model.backbone.init_cfg.checkpoint'
    ):
        check_pretrained(config(str(weights)))
    weights.touch()
    check_pretrained(config(str(weights)))
    check_pretrained(config('torchvision://resnet50'))


def test_a_pretrained_checkpoint_of_none_is_none():
    init_cfg = dict(type='Pretrained', checkpoint=None)
    check_pretrained(Config(dict(model=dict(init_cfg=init_cfg))))
    init_cfg['checkpoint'] = 'nothing.pth'
    with pytest.raises(FileNotFoundError, match=r'nothing\.pth is missing'):
        check_pretrained(Config(dict(model=dict(init_cfg=init_cfg))))
