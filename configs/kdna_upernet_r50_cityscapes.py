"""UperNet R-50 on Cityscapes, KernelDNA in backbone and head."""

_base_ = './plain/upernet_r50_cityscapes.py'

custom_imports = dict(imports=['mmkdna'])
model = dict(
    backbone=dict(conv_cfg=dict(type='KernelDNA')),
    decode_head=dict(conv_cfg=dict(type='KernelDNA')),
)
