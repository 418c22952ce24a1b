"""UperNet R-18 of half the width on CamVid, street scenes at half size."""

_base_ = '../../configs/digits/plain/upernet_r18.py'

# `python experiments/dense.py camvid --data DIR` unpacks the images there.
data_root = 'data/camvid/'
digit_scenes = None
metainfo = dict(
    classes=(
        *('sky', 'building', 'pole', 'road', 'pavement', 'tree'),
        *('sign symbol', 'fence', 'car', 'pedestrian', 'bicyclist'),
    )
)

loss_decode = dict(_delete_=True, type='CrossEntropyLoss', avg_non_ignore=True)
model = dict(
    data_preprocessor=dict(size=(160, 224)),
    backbone=dict(init_cfg=None),
    decode_head=dict(num_classes=11, loss_decode=loss_decode),
    auxiliary_head=dict(num_classes=11, loss_decode=loss_decode),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(
        type='RandomResize',
        scale=(240, 180),
        ratio_range=(0.75, 1.75),
        keep_ratio=True,
    ),
    dict(type='RandomCrop', crop_size=(160, 224), cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        metainfo=dict(_delete_=True, **metainfo),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        metainfo=dict(_delete_=True, **metainfo),
        data_prefix=dict(img_path='images/test', seg_map_path='labels/test'),
    ),
)
test_dataloader = val_dataloader

steps, warm_up = 4000, 100
default_hooks = dict(
    logger=dict(interval=50),
    checkpoint=dict(interval=500, max_keep_ckpts=1),
)
