"""Mask R-CNN ConvNeXt-T-FPN on COCO, 3x, mixed precision."""

_base_ = (
    'mmdet::convnext/mask-rcnn_convnext-t-p4-w7_fpn_amp-ms-crop-3x_coco.py'
)
