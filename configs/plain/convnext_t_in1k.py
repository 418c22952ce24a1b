"""ConvNeXt-T on ImageNet-1k, 150 epochs."""

_base_ = 'mmpretrain::convnext/convnext-tiny_32xb128_in1k.py'

train_cfg = dict(max_epochs=150)
