"""SegFormer MiT-b2 on ADE20K, 512 x 512, 160,000 iterations."""

_base_ = [
    '../_base_/segformer_mit-b2.py',
    '../_base_/ade20k_512x512_160k.py',
    '../_base_/mmseg_runtime.py',
]

model = dict(data_preprocessor=dict(size=(512, 512)))
train_dataloader = dict(batch_size=2, num_workers=2)
optim_wrapper = dict(
    optimizer=dict(
        _delete_=True,
        type='AdamW',
        lr=6e-5,
        betas=(0.9, 0.999),
        weight_decay=0.01,
    ),
    paramwise_cfg=dict(
        custom_keys={
            'pos_block': dict(decay_mult=0.0),
            'norm': dict(decay_mult=0.0),
            'head': dict(lr_mult=10.0),
        }
    ),
)
param_scheduler = [
    dict(
        type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500
    ),
    dict(type='PolyLR', power=1.0, begin=1500, end=160000, by_epoch=False),
]
