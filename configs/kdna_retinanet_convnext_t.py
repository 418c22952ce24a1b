"""RetinaNet ConvNeXt-T-FPN on COCO, KernelDNA in backbone, neck and head."""

_base_ = './plain/retinanet_convnext_t.py'

custom_imports = dict(imports=['mmkdna.backbones'])
model = dict(
    backbone=dict(type='KDNAConvNeXt'),
    neck=dict(conv_cfg=dict(type='KernelDNA')),
    bbox_head=dict(conv_cfg=dict(type='KernelDNA')),
)
