"""UperNet R-50 (V1c) on ADE20K, 512 x 512, 160,000 iterations."""

_base_ = [
    '../_base_/upernet_r50.py',
    '../_base_/ade20k_512x512_160k.py',
    '../_base_/mmseg_runtime.py',
]

model = dict(data_preprocessor=dict(size=(512, 512)))
