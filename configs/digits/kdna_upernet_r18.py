"""UperNet with the paper's R-18 on the digits.

The head stays plain: sharing there saves one percent of the parameters.
"""

_base_ = './plain/upernet_r18.py'

custom_imports = dict(imports=['mmkdna.backbones'])
# What `make digits` or, alone, `python tools/train.py
# configs/digits/kdna_r18.py --work-dir work_dirs/digits/kdna_r18` writes.
checkpoint = 'work_dirs/digits/kdna_r18/epoch_30.pth'
model = dict(
    backbone=dict(
        type='KDNAResNet',
        conv_cfg=dict(type='KernelDNA', min_channels=128),
        init_cfg=dict(checkpoint=checkpoint),
    ),
)
