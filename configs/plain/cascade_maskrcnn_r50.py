"""Cascade Mask R-CNN R-50-FPN on COCO, 1x."""

_base_ = 'mmdet::cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py'
