"""RTMDet-m on COCO, KernelDNA in backbone, neck and head."""

_base_ = './plain/rtmdet_m.py'

custom_imports = dict(imports=['mmkdna'])
model = dict(
    # CSPNeXt and its neck give a conv_cfg to no conv that can share.
    backbone=dict(kernel_dna=dict(min_channels=128)),
    neck=dict(kernel_dna=dict(min_channels=128)),
    bbox_head=dict(conv_cfg=dict(type='KernelDNA', min_channels=128)),
)
