"""RetinaNet R-50-FPN on COCO, 1x."""

_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
