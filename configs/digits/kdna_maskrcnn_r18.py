"""Mask R-CNN R-18-FPN on digit scenes, KernelDNA in backbone and neck."""

_base_ = './plain/maskrcnn_r18.py'

custom_imports = dict(imports=['mmkdna'])
model = dict(
    backbone=dict(conv_cfg=dict(type='KernelDNA', min_channels=96)),
    # The finest map keeps a layer of its own.
    neck=dict(
        conv_cfg=dict(
            type='KernelDNA', min_channels=64, family_size=[3], parent='first'
        )
    ),
)
