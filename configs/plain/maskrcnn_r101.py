"""Mask R-CNN R-101-FPN on COCO, 1x."""

_base_ = 'mmdet::mask_rcnn/mask-rcnn_r101_fpn_1x_coco.py'
