"""RetinaNet R-18-FPN on COCO, 1x."""

_base_ = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'
