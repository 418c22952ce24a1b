"""The plain digits classifier, adopted: the plain config and three changes.

It starts from the checkpoint of the plain run and ends as pure KernelDNA.
"""

_base_ = './plain/r18.py'

custom_imports = dict(imports=['mmkdna'])
model = dict(
    backbone=dict(
        conv_cfg=dict(type='KernelDNA', min_channels=128, family_size=3)
    )
)
# What `make digits` or, alone, `python tools/train.py
# configs/digits/plain/r18.py --work-dir work_dirs/digits/plain_r18` writes.
load_from = 'work_dirs/digits/plain_r18/epoch_30.pth'
custom_hooks = [dict(type='KernelFadeHook')]

# A sixth of the plain run, from its learning rate down again.
train_cfg = dict(max_epochs=5)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=20),
    dict(
        type='CosineAnnealingLR',
        T_max=5,
        begin=0,
        end=5,
        convert_to_iter_based=True,
    ),
]
