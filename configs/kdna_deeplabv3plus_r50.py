"""DeepLabV3+ R-50 (V1c) on ADE20K, KernelDNA in the backbone."""

_base_ = './plain/deeplabv3plus_r50.py'

custom_imports = dict(imports=['mmkdna'])
model = dict(backbone=dict(conv_cfg=dict(type='KernelDNA')))
