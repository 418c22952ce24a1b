"""The paper's ResNet-50 on ImageNet-1k, 300 epochs."""

_base_ = './plain/r50_in1k.py'

custom_imports = dict(imports=['mmkdna.backbones'])
model = dict(backbone=dict(type='KDNAResNet'))
