"""ResNet-18 on ImageNet-1k, 90 epochs."""

_base_ = 'mmpretrain::resnet/resnet18_8xb32_in1k.py'

train_cfg = dict(max_epochs=90)
param_scheduler = dict(milestones=[30, 60])
