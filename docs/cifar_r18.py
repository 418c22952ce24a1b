"""ResNet-18 with a 3x3 stem, narrow, on CIFAR-10: for a measurement.

docs/unpack_cifar.py writes the images. Its table is in docs/benchmarks.md.
"""

_base_ = '../configs/digits/plain/r18.py'

custom_imports = dict(imports=['mmkdna'])
digit_scenes = None
data_root = 'data/cifar10/'
model = dict(
    backbone=dict(
        type='ResNet_CIFAR',
        deep_stem=False,
        stem_channels=16,
        base_channels=16,
        conv_cfg=dict(type='KernelDNA', min_channels=64),
    ),
    head=dict(in_channels=128),
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomCrop', crop_size=32, padding=4),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(32, 32)),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=64,
    dataset=dict(
        data_root=data_root, data_prefix='train', pipeline=train_pipeline
    ),
)
val_dataloader = dict(
    batch_size=64,
    dataset=dict(
        data_root=data_root, data_prefix='test', pipeline=test_pipeline
    ),
)
test_dataloader = val_dataloader
