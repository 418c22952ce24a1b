"""The paper's ResNet-18 on crops of the digits in the scenes."""

_base_ = './plain/r18.py'

custom_imports = dict(imports=['mmkdna.backbones'])
model = dict(
    backbone=dict(
        type='KDNAResNet',
        conv_cfg=dict(type='KernelDNA', min_channels=128),
    )
)
