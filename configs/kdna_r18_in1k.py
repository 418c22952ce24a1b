"""The paper's ResNet-18 on ImageNet-1k, 90 epochs."""

_base_ = './plain/r18_in1k.py'

custom_imports = dict(imports=['mmkdna.backbones'])
model = dict(backbone=dict(type='KDNAResNet'))
