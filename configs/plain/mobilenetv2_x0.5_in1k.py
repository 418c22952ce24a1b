"""MobileNetV2 of half the width on ImageNet-1k, 150 epochs, cosine."""

_base_ = './mobilenetv2_in1k.py'

model = dict(backbone=dict(widen_factor=0.5))
