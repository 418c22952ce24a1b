"""MobileNetV2 on ImageNet-1k, 150 epochs, cosine."""

_base_ = 'mmpretrain::mobilenet_v2/mobilenet-v2_8xb32_in1k.py'

train_cfg = dict(max_epochs=150)
param_scheduler = dict(
    _delete_=True, type='CosineAnnealingLR', T_max=150, begin=0, end=150
)
