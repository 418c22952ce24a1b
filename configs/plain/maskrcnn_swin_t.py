"""Mask R-CNN Swin-T-FPN on COCO, 1x."""

_base_ = 'mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py'
