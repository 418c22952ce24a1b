"""UperNet R-18 on the label maps of the digit scenes.

Its backbone starts from the classifier that learned the digits' crops, as
segmentors do; small enough for two CPU cores.
"""

_base_ = '../../_base_/mmseg_runtime.py'

custom_imports = dict(imports=['mmpretrain.models'])
# What `make digits` or, alone, `python tools/train.py
# configs/digits/plain/r18.py --work-dir work_dirs/digits/plain_r18` writes.
checkpoint = 'work_dirs/digits/plain_r18/epoch_30.pth'

# tools/train.py and tools/test.py write these scenes, once.
data_root = 'data/digits/'
digit_scenes = dict(root=data_root, num_train=1000, num_val=200)

norm_cfg = dict(type='BN', requires_grad=True)
# Seven pixels of eight are background.
loss_decode = dict(type='CrossEntropyLoss', class_weight=[0.3] + [1.0] * 10)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=(160, 160),
    ),
    backbone=dict(
        type='mmpretrain.ResNet',
        depth=18,
        out_indices=(0, 1, 2, 3),
        deep_stem=True,
        stem_channels=32,
        base_channels=32,
        norm_cfg=norm_cfg,
        init_cfg=dict(
            type='Pretrained', checkpoint=checkpoint, prefix='backbone.'
        ),
    ),
    decode_head=dict(
        type='UPerHead',
        in_channels=[32, 64, 128, 256],
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=64,
        num_classes=11,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=loss_decode,
    ),
    auxiliary_head=dict(
        type='FCNHead',
        in_channels=256,
        in_index=3,
        channels=64,
        num_convs=1,
        concat_input=False,
        num_classes=11,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=loss_decode,
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)

# The ten digits in the colours of matplotlib's tab10, on black.
metainfo = dict(
    classes=('background', *'0123456789'),
    palette=[
        [0, 0, 0],
        [31, 119, 180],
        [255, 127, 14],
        [44, 160, 44],
        [214, 39, 40],
        [148, 103, 189],
        [140, 86, 75],
        [227, 119, 194],
        [127, 127, 127],
        [188, 189, 34],
        [23, 190, 207],
    ],
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='BaseSegDataset',
        data_root=data_root,
        metainfo=metainfo,
        img_suffix='.png',
        seg_map_suffix='.png',
        data_prefix=dict(img_path='images/train', seg_map_path='labels/train'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='BaseSegDataset',
        data_root=data_root,
        metainfo=metainfo,
        img_suffix='.png',
        seg_map_suffix='.png',
        data_prefix=dict(img_path='images/val', seg_map_path='labels/val'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

train_cfg = dict(type='IterBasedTrainLoop', max_iters=6000, val_interval=1500)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=10.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(
        type='CosineAnnealingLR', T_max=6000, by_epoch=False, begin=0, end=6000
    ),
]
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(interval=1500, max_keep_ckpts=1),
)
randomness = dict(seed=0)
