"""Mask R-CNN ConvNeXt-T-FPN on COCO, 3x, KernelDNA in backbone and neck."""

_base_ = './plain/maskrcnn_convnext_t.py'

custom_imports = dict(imports=['mmkdna.backbones'])
model = dict(
    backbone=dict(type='KDNAConvNeXt'),
    # The finest map keeps a layer of its own.
    neck=dict(
        conv_cfg=dict(type='KernelDNA', family_size=[3], parent='first')
    ),
)
