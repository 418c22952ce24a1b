"""DINO R-50, 4 scales, on COCO, 12 epochs, KernelDNA in the backbone."""

_base_ = './plain/dino_r50.py'

custom_imports = dict(imports=['mmkdna'])
model = dict(backbone=dict(conv_cfg=dict(type='KernelDNA')))
