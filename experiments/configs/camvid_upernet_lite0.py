"""UperNet on CamVid over a backbone that has seen ImageNet."""

_base_ = './camvid_upernet_r18.py'

# In the folder of the experiments.
custom_imports = dict(imports=['lite0'])
model = dict(
    data_preprocessor=dict(mean=[127.0] * 3, std=[128.0] * 3),
    backbone=dict(_delete_=True, type='EfficientNetLite0'),
    decode_head=dict(in_channels=[24, 40, 112, 320]),
    auxiliary_head=dict(in_channels=320),
)
optim_wrapper = dict(optimizer=dict(lr=5e-4))

steps = 1500
