"""UperNet with the paper's R-50 (V1c) on ADE20K, KernelDNA in the head too."""

_base_ = './plain/upernet_r50.py'

custom_imports = dict(imports=['mmkdna.backbones'])
# What `python tools/train.py configs/kdna_r50_in1k.py
# --cfg-options model.backbone.deep_stem=True
# --work-dir work_dirs/kdna_r50_v1c_in1k` writes.
checkpoint = 'work_dirs/kdna_r50_v1c_in1k/epoch_300.pth'
model = dict(
    backbone=dict(
        type='KDNAResNet',
        init_cfg=dict(
            type='Pretrained', checkpoint=checkpoint, prefix='backbone.'
        ),
    ),
    decode_head=dict(conv_cfg=dict(type='KernelDNA')),
)
