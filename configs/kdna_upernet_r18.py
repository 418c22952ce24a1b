"""UperNet R-18 on ADE20K, KernelDNA in backbone and head."""

_base_ = './plain/upernet_r18.py'

custom_imports = dict(imports=['mmkdna'])
model = dict(
    backbone=dict(conv_cfg=dict(type='KernelDNA')),
    decode_head=dict(conv_cfg=dict(type='KernelDNA')),
)
