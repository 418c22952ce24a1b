"""RetinaNet R-18-FPN on digit scenes, KernelDNA in all its parts."""

_base_ = './plain/retinanet_r18.py'

custom_imports = dict(imports=['mmkdna'])
model = dict(
    backbone=dict(conv_cfg=dict(type='KernelDNA', min_channels=96)),
    neck=dict(conv_cfg=dict(type='KernelDNA', min_channels=64)),
    bbox_head=dict(conv_cfg=dict(type='KernelDNA', min_channels=64)),
)
