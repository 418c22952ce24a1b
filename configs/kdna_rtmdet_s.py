"""RTMDet-s on COCO, KernelDNA in backbone and head."""

_base_ = './plain/rtmdet_s.py'

custom_imports = dict(imports=['mmkdna'])
model = dict(
    # CSPNeXt gives its conv_cfg to no conv that can share.
    backbone=dict(kernel_dna=dict(min_channels=128)),
    # The neck has one block a stage: no family.
    bbox_head=dict(conv_cfg=dict(type='KernelDNA', min_channels=128)),
)
