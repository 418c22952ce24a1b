"""The digits' Mask R-CNN, trained, goes on for two epochs.

`python experiments/dense.py digits --data data` compares what it is then with
what it is with families.
"""

_base_ = '../../configs/digits/plain/maskrcnn_r18.py'

load_from = 'mmkdna://maskrcnn_r18_digits'

train_dataloader = dict(
    sampler=dict(_delete_=True, type='InfiniteSampler', shuffle=True)
)
steps, warm_up = 500, 50
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=250, max_keep_ckpts=1)
)
log_processor = dict(by_epoch=False)
