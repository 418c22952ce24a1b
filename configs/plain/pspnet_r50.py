"""PSPNet R-50 (V1c) on ADE20K, 512 x 512, 160,000 iterations."""

_base_ = './upernet_r50.py'

model = dict(
    # Stages 3 and 4 keep the resolution of stage 2 and dilate instead.
    backbone=dict(
        strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4), contract_dilation=True
    ),
    decode_head=dict(
        _delete_=True,
        type='PSPHead',
        in_channels=2048,
        in_index=3,
        channels=512,
        pool_scales=(1, 2, 3, 6),
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True),
    ),
)
