"""Mask R-CNN with the paper's R-50 on COCO, 1x, KernelDNA in the neck too."""

_base_ = './plain/maskrcnn_r50.py'

custom_imports = dict(imports=['mmkdna.backbones'])
# What `python tools/train.py configs/kdna_r50_in1k.py` writes.
checkpoint = 'work_dirs/kdna_r50_in1k/epoch_300.pth'
model = dict(
    backbone=dict(
        type='KDNAResNet',
        init_cfg=dict(
            type='Pretrained', checkpoint=checkpoint, prefix='backbone.'
        ),
    ),
    # The finest map keeps a layer of its own.
    neck=dict(
        conv_cfg=dict(type='KernelDNA', family_size=[3], parent='first')
    ),
)
