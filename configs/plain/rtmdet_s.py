"""RTMDet-s on COCO, 300 epochs."""

_base_ = 'mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py'
