"""Mask R-CNN R-50-FPN on COCO, 1x, KernelDNA in backbone and neck."""

_base_ = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'

custom_imports = dict(imports=['mmkdna'])
model = dict(
    backbone=dict(conv_cfg=dict(type='KernelDNA')),
    neck=dict(conv_cfg=dict(type='KernelDNA')),
)
