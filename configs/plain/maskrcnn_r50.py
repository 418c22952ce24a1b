"""Mask R-CNN R-50-FPN on COCO, 1x."""

_base_ = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'
