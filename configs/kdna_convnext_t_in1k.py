"""ConvNeXt-T with KernelDNA on ImageNet-1k, 150 epochs."""

_base_ = './plain/convnext_t_in1k.py'

custom_imports = dict(imports=['mmkdna.backbones'])
model = dict(backbone=dict(type='KDNAConvNeXt'))
