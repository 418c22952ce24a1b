"""UperNet R-18 on the digits' label maps, KernelDNA in backbone and head."""

_base_ = './plain/upernet_r18.py'

custom_imports = dict(imports=['mmkdna'])
model = dict(
    backbone=dict(conv_cfg=dict(type='KernelDNA', min_channels=128)),
    decode_head=dict(conv_cfg=dict(type='KernelDNA', min_channels=64)),
)
