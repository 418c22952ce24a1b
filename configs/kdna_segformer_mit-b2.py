"""SegFormer MiT-b2 on ADE20K, KernelDNA in the backbone."""

_base_ = './plain/segformer_mit-b2.py'

custom_imports = dict(imports=['mmkdna'])
# The backbone takes no conv_cfg; what shares are 1x1 convs of its MixFFN.
model = dict(backbone=dict(kernel_dna=dict(kernel_sizes=(1,))))
