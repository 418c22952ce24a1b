"""The digits' Mask R-CNN from scratch, as long as it ships.

`python experiments/dense.py digits_scratch --data data` compares what it is
plain with what it is with families.
"""

_base_ = './digits_maskrcnn_r18.py'

load_from = None
steps, warm_up = 2000, 100
