"""Every head with a conv_cfg, and others, plain and as KernelDNA."""

import pytest
import torch
from every_module import LIBRARIES, cases, check, registered, takes_conv_cfg

Size = torch.Size
HEADS = (
    'heads', 'dense_heads', 'decode_heads', 'roi_heads', 'seg_heads',
    'tracking_heads',
)  # fmt: skip
BN = dict(norm_cfg=dict(type='BN'))
GN = dict(norm_cfg=dict(type='GN', num_groups=4))
DENSE = dict(num_classes=4, in_channels=16, feat_channels=16)
FIVE = tuple(Size((2, 16, 32 >> i, 32 >> i)) for i in range(5))
ONE_ANCHOR = dict(
    anchor_generator=dict(
        type='AnchorGenerator', ratios=[1.0], octave_base_scale=8,
        scales_per_octave=1, strides=[8, 16, 32, 64, 128],
    )
)  # fmt: skip
RTM = dict(
    DENSE, **BN, stacked_convs=2,
    anchor_generator=dict(
        type='MlvlPointGenerator', offset=0, strides=[8, 16, 32]
    ),
    bbox_coder=dict(type='DistancePointBBoxCoder'),
)  # fmt: skip
ROI = Size((4, 16, 7, 7))
BOX = dict(
    in_channels=16, conv_out_channels=16, fc_out_channels=16, num_classes=4
)
MASK = dict(in_channels=16, conv_out_channels=16, num_classes=4)
SEGMENT = dict(in_channels=16, channels=16, num_classes=4, **BN)
MAP = (Size((2, 16, 16, 16)),)
FOUR = tuple(Size((2, 16, 32 >> i, 32 >> i)) for i in range(4))
ALL_FOUR = dict(SEGMENT, in_channels=[16] * 4, in_index=[0, 1, 2, 3])
UPDATE = dict(
    type='KernelUpdateHead', num_classes=4, num_ffn_fcs=2, num_heads=2,
    num_mask_fcs=1, feedforward_channels=32, in_channels=16, out_channels=16,
    feat_transform_cfg=dict(conv_cfg=dict(type='Conv2d'), act_cfg=None),
    kernel_updator_cfg=dict(
        type='KernelUpdator', in_channels=16, feat_channels=16,
        out_channels=16, act_cfg=dict(type='ReLU', inplace=True),
        norm_cfg=dict(type='LN'),
    ),
)  # fmt: skip
SSD = dict(
    num_classes=4, in_channels=[16] * 6, stacked_convs=3, feat_channels=16,
    anchor_generator=dict(
        type='SSDAnchorGenerator', scale_major=False, input_size=300,
        basesize_ratio_range=(0.15, 0.9), strides=[8, 16, 32, 64, 100, 300],
        ratios=[[2], [2, 3], [2, 3], [2, 3], [2], [2]],
    ),
)  # fmt: skip
SIX = (*FIVE, Size((2, 16, 1, 1)))
SOLO = dict(
    DENSE, stacked_convs=4, num_grids=[8, 8, 4, 4, 2], cls_down_index=0,
    strides=[8, 8, 16, 32, 32], pos_scale=0.2, **GN,
)  # fmt: skip
SOLO_LOSSES = dict(
    loss_mask=dict(type='DiceLoss', use_sigmoid=True, loss_weight=3.0),
    loss_cls=dict(type='FocalLoss', use_sigmoid=True, loss_weight=1.0),
)

TABLES = dict(
    mmdet={
        'ATSSHead': (dict(DENSE, **GN), FIVE),
        'AutoAssignHead': (dict(DENSE, **GN), FIVE),
        'BoxInstBboxHead': (dict(DENSE, **GN), FIVE),
        'CenterNetUpdateHead': (dict(DENSE, **GN), FIVE),
        'CoarseMaskHead': (
            dict(MASK, num_convs=2, fc_out_channels=16, roi_feat_size=8),
            Size((4, 16, 8, 8)),
        ),
        'CondInstBboxHead': (dict(DENSE, **GN), FIVE),
        'ConvFCBBoxHead': (
            dict(
                BOX, num_shared_convs=2, num_cls_convs=2, num_reg_convs=2,
                num_cls_fcs=1, num_reg_fcs=1,
            ),
            ROI,
        ),
        'DDODHead': (dict(DENSE, **GN, use_dcn=False), FIVE),
        'DoubleConvFCBBoxHead': (
            dict(BOX, num_convs=4, num_fcs=2, with_avg_pool=True), ROI, ROI
        ),
        'DynamicMaskHead': (
            dict(
                MASK, roi_feat_size=7,
                dynamic_conv_cfg=dict(
                    type='DynamicConv', in_channels=16, feat_channels=8,
                    out_channels=16, input_feat_shape=7, with_proj=False,
                    act_cfg=dict(type='ReLU', inplace=True),
                    norm_cfg=dict(type='LN'),
                ),
            ),
            ROI,
            Size((4, 1, 16)),
        ),
        'FCNMaskHead': (MASK, ROI),
        'FCOSHead': (dict(DENSE, **GN), FIVE),
        'FSAFHead': (dict(DENSE, **ONE_ANCHOR), FIVE),
        'FoveaHead': (DENSE, FIVE),
        'FreeAnchorRetinaHead': (DENSE, FIVE),
        'FusedSemanticHead': (
            dict(MASK, num_ins=5, fusion_level=1), FIVE
        ),
        'GARetinaHead': (DENSE, tuple(Size((1, *s[1:])) for s in FIVE)),
        'GFLHead': (dict(DENSE, **GN, **ONE_ANCHOR), FIVE),
        'GlobalContextHead': (MASK, FIVE),
        'GridHead': (
            dict(
                in_channels=16, point_feat_channels=16,
                norm_cfg=dict(type='GN', num_groups=36),
            ),
            Size((2, 16, 14, 14)),
        ),
        'HTCMaskHead': (MASK, ROI, ROI),
        'LADHead': (dict(DENSE, **GN), FIVE),
        'LDHead': (
            dict(
                DENSE, **GN, **ONE_ANCHOR,
                loss_ld=dict(type='KnowledgeDistillationKLDivLoss'),
            ),
            FIVE,
        ),
        'MaskPointHead': (
            dict(num_classes=4, in_channels=16, fc_channels=16),
            Size((4, 16, 9)),
            Size((4, 4, 9)),
        ),
        'NASFCOSHead': (dict(DENSE, **GN), FIVE),
        'PAAHead': (dict(DENSE, **GN), FIVE),
        'PISARetinaHead': (DENSE, FIVE),
        'PISASSDHead': (
            SSD,
            SIX,
        ),
        'PanopticFPNHead': (
            dict(in_channels=16, inner_channels=16, **GN), FOUR
        ),
        'QuasiDenseEmbedHead': (
            dict(
                num_convs=4, num_fcs=1, in_channels=16, conv_out_channels=16,
                fc_out_channels=16, embed_channels=16,
                loss_track=dict(type='MultiPosCrossEntropyLoss'),
                loss_track_aux=dict(type='MarginL2Loss'),
            ),
            ROI,
        ),
        'RTMDetHead': (RTM, FIVE[:3]),
        'RTMDetInsHead': (RTM, FIVE[:3]),
        'RTMDetInsSepBNHead': (RTM, FIVE[:3]),
        'RTMDetSepBNHead': (RTM, FIVE[:3]),
        'RepPointsHead': (
            dict(DENSE, point_feat_channels=16, **GN), FIVE
        ),
        'RetinaHead': (DENSE, FIVE),
        'RetinaSepBNHead': (dict(DENSE, num_ins=5, **BN), FIVE),
        'RoIEmbedHead': (
            dict(
                num_convs=4, num_fcs=1, in_channels=16, conv_out_channels=16,
                fc_out_channels=16,
            ),
            ROI,
            ROI,
            [2, 2],
            [2, 2],
        ),
        'SABLRetinaHead': (DENSE, FIVE),
        'SCNetBBoxHead': (
            dict(BOX, num_shared_convs=4, num_shared_fcs=1), ROI
        ),
        'SCNetMaskHead': (MASK, ROI),
        'SCNetSemanticHead': (
            dict(MASK, num_ins=5, fusion_level=1), FIVE
        ),
        'SSDHead': (
            SSD,
            SIX,
        ),
        'Shared2FCBBoxHead': (
            dict(in_channels=16, fc_out_channels=16, num_classes=4), ROI
        ),
        'Shared4Conv1FCBBoxHead': (BOX, ROI),
        'TOODHead': (dict(DENSE, **GN, **ONE_ANCHOR), FIVE),
        'VFNetHead': (dict(DENSE, **GN), FIVE),
        'YOLACTHead': (dict(DENSE, num_head_convs=3), FIVE),
        'YOLOV3Head': (
            dict(
                num_classes=4, in_channels=[16] * 3, out_channels=[16] * 3
            ),
            FIVE[:3],
        ),
        'YOLOXHead': (DENSE, FIVE[:3]),
        # Without a conv_cfg.
        'CenterNetHead': (
            dict(in_channels=16, feat_channels=16, num_classes=4), MAP
        ),
        'DIIHead': (
            dict(
                num_classes=4, num_ffn_fcs=2, num_heads=2, num_reg_fcs=3,
                num_cls_fcs=3, feedforward_channels=32, in_channels=16,
                dynamic_conv_cfg=dict(
                    type='DynamicConv', in_channels=16, feat_channels=8,
                    out_channels=16, input_feat_shape=7,
                    act_cfg=dict(type='ReLU', inplace=True),
                    norm_cfg=dict(type='LN'),
                ),
            ),
            ROI,
            Size((1, 4, 16)),
        ),
        'DecoupledSOLOHead': (dict(SOLO, **SOLO_LOSSES), FIVE),
        'DecoupledSOLOLightHead': (dict(SOLO, **SOLO_LOSSES), FIVE),
        'RPNHead': (
            dict(in_channels=16, feat_channels=16, num_convs=4), FIVE
        ),
        'SOLOHead': (dict(SOLO, **SOLO_LOSSES), FIVE),
        'YOLOFHead': (
            dict(
                num_classes=4, in_channels=16,
                anchor_generator=dict(
                    type='AnchorGenerator', ratios=[1.0], scales=[1, 2, 4],
                    strides=[32],
                ),
            ),
            MAP,
        ),
    },
    mmseg={
        'ANNHead': (
            dict(ALL_FOUR, project_channels=16, in_channels=[16, 16],
                 in_index=[-2, -1]),
            FOUR,
        ),
        'APCHead': (SEGMENT, MAP),
        'ASPPHead': (SEGMENT, MAP),
        'CCHead': (SEGMENT, MAP),
        'DAHead': (dict(SEGMENT, pam_channels=8), MAP),
        'DDRHead': (
            SEGMENT, {True: (Size((2, 8, 16, 16)), *MAP), False: MAP[0]}
        ),
        'DMHead': (SEGMENT, MAP),
        'DNLHead': (SEGMENT, MAP),
        'DPTHead': (
            dict(
                ALL_FOUR, embed_dims=16, post_process_channels=[8, 16, 16, 16],
                input_transform='multiple_select',
            ),
            tuple((Size((2, 16, 4, 4)), Size((2, 16))) for _ in range(4)),
        ),
        'DepthwiseSeparableASPPHead': (
            dict(SEGMENT, c1_in_channels=16, c1_channels=8), FOUR
        ),
        'DepthwiseSeparableFCNHead': (dict(SEGMENT, num_convs=3), MAP),
        'EMAHead': (
            dict(SEGMENT, ema_channels=16, num_bases=8, num_stages=2), MAP
        ),
        'EncHead': (ALL_FOUR, FOUR),
        'FCNHead': (dict(SEGMENT, num_convs=4), MAP),
        'FPNHead': (dict(ALL_FOUR, feature_strides=[4, 8, 16, 32]), FOUR),
        'GCHead': (SEGMENT, MAP),
        'ISAHead': (dict(SEGMENT, isa_channels=8), MAP),
        'IterativeDecodeHead': (
            dict(
                num_stages=2, kernel_update_head=[UPDATE, UPDATE],
                kernel_generate_head=dict(
                    dict(SEGMENT, type='FCNHead', num_convs=4)
                ),
            ),
            MAP,
        ),
        'LRASPPHead': (
            dict(
                SEGMENT, in_channels=(16, 16, 16), in_index=(0, 1, 2),
                branch_channels=(8, 16), input_transform='multiple_select',
            ),
            tuple(Size((2, 16, n, n)) for n in (128, 64, 64)),
        ),
        'LightHamHead': (
            dict(
                ALL_FOUR, ham_channels=16, ham_kwargs=dict(MD_R=4), **GN
            ),
            FOUR,
        ),
        'NLHead': (SEGMENT, MAP),
        'OCRHead': (
            dict(SEGMENT, ocr_channels=8), MAP, Size((2, 4, 16, 16))
        ),
        'PIDHead': (
            SEGMENT,
            {True: (Size((2, 8, 16, 16)), *MAP, Size((2, 8, 16, 16))),
             False: MAP[0]},
        ),
        'PSAHead': (dict(SEGMENT, mask_size=(16, 16)), MAP),
        'PSPHead': (SEGMENT, MAP),
        'PointHead': (
            dict(
                in_channels=[16], in_index=[0], channels=16, num_classes=4
            ),
            Size((2, 16, 9)),
            Size((2, 4, 9)),
        ),
        'SETRMLAHead': (dict(ALL_FOUR, channels=32, mla_channels=8), MAP * 4),
        'SETRUPHead': (dict(SEGMENT, num_convs=3), (Size((2, 16, 4, 4)),)),
        'STDCHead': (dict(SEGMENT, num_convs=3), MAP),
        'SegformerHead': (ALL_FOUR, FOUR),
        'SegmenterMaskTransformerHead': (
            dict(
                SEGMENT, num_layers=2, num_heads=2, embed_dims=16,
                norm_cfg=dict(type='LN'),
            ),
            MAP,
        ),
        'UPerHead': (ALL_FOUR, FOUR),
    },
    mmpretrain={
        'StackedLinearClsHead': (
            dict(
                num_classes=4, in_channels=16, mid_channels=[16, 16, 16]
            ),
            (Size((8, 16)),),
        ),
    },
)  # fmt: skip

DROPS = 'its constructor drops conv_cfg'
EXCLUDED = dict(
    mmdet=dict(
        AnchorFreeHead='abstract',
        ATSSVLFusionHead='reads a language model, which it downloads',
        Mask2FormerHead=DROPS,
        Mask2FormerTrackHead=DROPS,
        MaskFormerHead=DROPS,
    ),
    mmseg=dict(
        Mask2FormerHead=DROPS,
        MaskFormerHead=DROPS,
        SideAdapterCLIPHead='a transformer: no conv gets its conv_cfg',
    ),
    mmpretrain={},
)

# Their convs are alone with their shape, 1x1, or get no conv_cfg.
NOTHING = {
    ('mmdet', 'conv_cfg'): {
        'MaskPointHead', 'NASFCOSHead', 'Shared2FCBBoxHead',
    },
    ('mmseg', 'conv_cfg'): {
        'ANNHead', 'APCHead', 'DAHead', 'DDRHead', 'DMHead', 'DPTHead',
        'DepthwiseSeparableASPPHead', 'DepthwiseSeparableFCNHead', 'EMAHead',
        'EncHead', 'ISAHead', 'LRASPPHead', 'LightHamHead', 'OCRHead',
        'PIDHead', 'PSAHead', 'PSPHead', 'PointHead', 'SETRMLAHead',
        'SETRUPHead', 'SegformerHead', 'SegmenterMaskTransformerHead',
    },
    ('mmdet', 'kernel_dna'): {
        'CenterNetHead', 'MaskPointHead', 'Shared2FCBBoxHead',
    },
    ('mmseg', 'kernel_dna'): {
        'DAHead', 'DDRHead', 'EMAHead', 'EncHead', 'ISAHead', 'LRASPPHead',
        'LightHamHead', 'OCRHead', 'PIDHead', 'PSAHead', 'PointHead',
    },
}  # fmt: skip
BY_KEY = {'IterativeDecodeHead'}


@pytest.mark.parametrize('library', LIBRARIES)
def test_every_head_with_a_conv_cfg_is_in_a_table(library):
    """Those that take no conv_cfg may be missing."""
    found = registered(library, *HEADS)
    listed = TABLES[library].keys() | EXCLUDED[library].keys()
    assert {name for name in found if takes_conv_cfg(found[name])} <= listed
    assert listed <= found.keys()
    assert not TABLES[library].keys() & EXCLUDED[library].keys()


@pytest.mark.parametrize('case', cases(TABLES, NOTHING, BY_KEY))
def test_a_head_does_all_that_its_plain_twin_does(case, log):
    check(case, log)
