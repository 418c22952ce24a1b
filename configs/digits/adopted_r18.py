"""The plain digits classifier, adopted: the plain config and three changes.

It starts from the zoo's plain weights and ends as pure KernelDNA.
"""

_base_ = './plain/r18.py'

custom_imports = dict(imports=['mmkdna'])
model = dict(
    backbone=dict(
        conv_cfg=dict(type='KernelDNA', min_channels=128, family_size=3)
    )
)
load_from = 'mmkdna://r18_digits'

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
