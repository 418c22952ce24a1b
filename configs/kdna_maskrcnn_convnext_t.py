"""Mask R-CNN ConvNeXt-T-FPN on COCO, 3x, KernelDNA in backbone and neck."""

_base_ = './plain/maskrcnn_convnext_t.py'

custom_imports = dict(imports=['mmkdna.backbones'])
model = dict(
    backbone=dict(type='KDNAConvNeXt'),
    neck=dict(conv_cfg=dict(type='KernelDNA')),
)
