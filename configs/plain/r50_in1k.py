"""ResNet-50 on ImageNet-1k, 300 epochs, cosine."""

_base_ = 'mmpretrain::resnet/resnet50_8xb32-coslr_in1k.py'

train_cfg = dict(max_epochs=300)
param_scheduler = dict(T_max=300, end=300)
