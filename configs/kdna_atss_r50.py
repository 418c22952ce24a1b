"""ATSS R-50-FPN on COCO, 1x, KernelDNA in backbone, neck and head."""

_base_ = './plain/atss_r50.py'

custom_imports = dict(imports=['mmkdna'])
model = dict(
    backbone=dict(conv_cfg=dict(type='KernelDNA')),
    neck=dict(conv_cfg=dict(type='KernelDNA')),
    bbox_head=dict(conv_cfg=dict(type='KernelDNA')),
)
