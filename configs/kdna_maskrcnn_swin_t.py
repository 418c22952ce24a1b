"""Mask R-CNN Swin-T-FPN on COCO, 1x, KernelDNA in backbone and neck."""

_base_ = './plain/maskrcnn_swin_t.py'

custom_imports = dict(imports=['mmkdna'])
model = dict(
    # Swin takes no conv_cfg; what shares are its linear layers.
    backbone=dict(kernel_dna=dict(linear=True, kernel_sizes=(1,))),
    # The finest map keeps a layer of its own.
    neck=dict(
        conv_cfg=dict(type='KernelDNA', family_size=[3], parent='first')
    ),
)
