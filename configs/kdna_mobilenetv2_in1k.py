"""The paper's MobileNetV2 on ImageNet-1k, 150 epochs."""

_base_ = './plain/mobilenetv2_in1k.py'

custom_imports = dict(imports=['mmkdna.backbones'])
model = dict(backbone=dict(type='KDNAMobileNetV2'))
