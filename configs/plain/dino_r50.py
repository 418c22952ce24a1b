"""DINO R-50, 4 scales, on COCO, 12 epochs."""

_base_ = 'mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py'
