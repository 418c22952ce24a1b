"""The paper's MobileNetV2 x0.5 on ImageNet-1k, 150 epochs."""

_base_ = './plain/mobilenetv2_x0.5_in1k.py'

custom_imports = dict(imports=['mmkdna.backbones'])
model = dict(backbone=dict(type='KDNAMobileNetV2'))
