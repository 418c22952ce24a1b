"""ResNet-18 of half the width on crops of the digits in the scenes.

Small enough for two CPU cores: it trains from scratch in some minutes.
"""

_base_ = 'mmpretrain::resnet/resnet18_8xb32_in1k.py'

# tools/train.py and tools/test.py write these scenes, once.
data_root = 'data/digits/'
digit_scenes = dict(root=data_root, num_train=1000, num_val=200)

data_preprocessor = dict(num_classes=10)
model = dict(
    backbone=dict(deep_stem=True, stem_channels=32, base_channels=32),
    head=dict(in_channels=256, num_classes=10, topk=(1,)),
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(48, 48)),
    dict(type='Rotate', magnitude_range=(0, 15), magnitude_std='inf'),
    dict(type='Shear', magnitude_range=(0, 0.2), magnitude_std='inf'),
    dict(type='Invert', prob=0.5),
    dict(type='RandomCrop', crop_size=48, padding=4, padding_mode='edge'),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(48, 48)),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        _delete_=True,
        type='CustomDataset',
        data_root=data_root,
        data_prefix='crops/train',
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        _delete_=True,
        type='CustomDataset',
        data_root=data_root,
        data_prefix='crops/val',
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(topk=(1,))
test_evaluator = val_evaluator

train_cfg = dict(max_epochs=30)
optim_wrapper = dict(
    optimizer=dict(
        _delete_=True, type='AdamW', lr=1e-3, weight_decay=0.05, fused=True
    )
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(
        type='CosineAnnealingLR',
        T_max=30,
        begin=0,
        end=30,
        convert_to_iter_based=True,
    ),
]
default_hooks = dict(
    logger=dict(interval=10), checkpoint=dict(max_keep_ckpts=1)
)
randomness = dict(seed=0)
