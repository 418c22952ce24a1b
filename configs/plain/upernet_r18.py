"""UperNet R-18 (V1c) on ADE20K, 512 x 512, 160,000 iterations."""

_base_ = './upernet_r50.py'

model = dict(
    backbone=dict(
        depth=18, init_cfg=dict(checkpoint='open-mmlab://resnet18_v1c')
    ),
    decode_head=dict(in_channels=[64, 128, 256, 512]),
    auxiliary_head=dict(in_channels=256),
)
