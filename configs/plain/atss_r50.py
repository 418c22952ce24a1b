"""ATSS R-50-FPN on COCO, 1x."""

_base_ = 'mmdet::atss/atss_r50_fpn_1x_coco.py'
