"""Mask R-CNN R-18-FPN on COCO, 1x, KernelDNA in backbone and neck."""

_base_ = './plain/maskrcnn_r18.py'

custom_imports = dict(imports=['mmkdna'])
model = dict(
    backbone=dict(conv_cfg=dict(type='KernelDNA')),
    # The finest map keeps a layer of its own.
    neck=dict(
        conv_cfg=dict(type='KernelDNA', family_size=[3], parent='first')
    ),
)
