"""UperNet ConvNeXt-T on ADE20K, KernelDNA in backbone and head."""

_base_ = './plain/upernet_convnext_t.py'

custom_imports = dict(imports=['mmkdna.backbones'])
model = dict(
    backbone=dict(type='KDNAConvNeXt'),
    decode_head=dict(conv_cfg=dict(type='KernelDNA')),
)
