"""Every neck with a conv_cfg, and others, plain and as KernelDNA."""

import pytest
import torch
from every_module import LIBRARIES, cases, check, registered, takes_conv_cfg


def levels(*channels, size=16):
    """Shapes of a pyramid of these channels, each half of the one before."""
    return tuple(
        torch.Size((2, c, size >> i, size >> i))
        for i, c in enumerate(channels)
    )


FOUR = levels(8, 16, 24, 32)
PYRAMID = dict(in_channels=[8, 16, 24, 32], out_channels=16, num_outs=5)
EQUAL = levels(16, 16, 16, 16)

TABLES = dict(
    mmdet={
        'BFP': (
            dict(in_channels=16, num_levels=4, refine_type='conv'), EQUAL
        ),
        'CLRFPN': (dict(PYRAMID, num_outs=4), FOUR),
        'CSPNeXtPAFPN': (
            dict(in_channels=[16, 16, 16], out_channels=16), levels(16, 16, 16)
        ),
        'CTResNetNeck': (
            dict(
                in_channels=16, num_deconv_filters=(16, 16, 16),
                num_deconv_kernels=(4, 4, 4), use_dcn=False,
            ),
            levels(16, size=8),
        ),
        'ChannelMapper': (
            dict(in_channels=[16] * 4, out_channels=16, num_outs=5), EQUAL
        ),
        'DilatedEncoder': (
            dict(
                in_channels=16, out_channels=16, block_mid_channels=8,
                num_residual_blocks=4, block_dilations=[1, 2, 3, 4],
            ),
            levels(16),
        ),
        'FPG': (
            dict(
                PYRAMID, in_channels=[16] * 4, inter_channels=16,
                stack_times=3, paths=['bu'] * 3,
                skip_inds=[(0, 1, 2), (0, 1), (0,), (), ()],
                same_down_trans=None,
                same_up_trans=dict(
                    type='conv', kernel_size=3, stride=2, padding=1
                ),
                across_up_trans=None,
                across_skip_trans=dict(type='conv', kernel_size=1),
                across_down_trans=dict(
                    type='interpolation_conv', mode='nearest', kernel_size=3
                ),
            ),
            EQUAL,
        ),
        'FPN': (PYRAMID, FOUR),
        'FPN_DropBlock': (PYRAMID, levels(8, 16, 24, 32, size=32)),
        'HRFPN': (PYRAMID, FOUR),
        'NASFCOS_FPN': (
            dict(
                in_channels=[16] * 4, out_channels=16, num_outs=5,
                start_level=1, add_extra_convs=True,
            ),
            levels(16, 16, 16, 16, size=32),
        ),
        'NASFPN': (
            dict(
                in_channels=[16] * 4, out_channels=16, num_outs=5,
                stack_times=2, norm_cfg=dict(type='BN'),
            ),
            levels(16, 16, 16, 16, size=64),
        ),
        'PAFPN': (PYRAMID, FOUR),
        'RFP': (
            dict(
                in_channels=[32, 64, 128, 256], out_channels=16, num_outs=4,
                rfp_steps=2, aspp_out_channels=4,
                rfp_backbone=dict(
                    type='DetectoRS_ResNet', depth=50, rfp_inplanes=16,
                    stem_channels=8, base_channels=8, output_img=True,
                ),
            ),
            (torch.Size((2, 3, 64, 64)), *levels(32, 64, 128, 256)),
        ),
        'SSDNeck': (
            dict(
                in_channels=(16, 32), out_channels=(16, 32, 16, 16),
                level_strides=(2, 2), level_paddings=(1, 1),
            ),
            levels(16, 32),
        ),
        'SSH': (
            dict(num_scales=2, in_channels=[8, 16], out_channels=[16, 32]),
            levels(8, 16),
        ),
        'YOLOV3Neck': (
            dict(
                num_scales=3, in_channels=[32, 16, 8],
                out_channels=[16, 8, 8],
            ),
            levels(8, 16, 32),
        ),
        'YOLOXPAFPN': (
            dict(in_channels=[16, 16, 16], out_channels=16), levels(16, 16, 16)
        ),
    },
    mmseg={
        'FPN': (PYRAMID, FOUR),
        'ICNeck': (
            dict(in_channels=(16, 16, 16), out_channels=16),
            levels(16, 16, 16),
        ),
        'JPU': (
            dict(in_channels=(16, 16, 16), mid_channels=16),
            levels(16, 16, 16),
        ),
        'MLANeck': (
            dict(
                in_channels=[16] * 4, out_channels=16,
                norm_cfg=dict(type='BN'),
            ),
            tuple(torch.Size((2, 16, 8, 8)) for _ in range(4)),
        ),
        'MultiLevelNeck': (
            dict(in_channels=[8, 16, 16, 16], out_channels=16),
            levels(8, 16, 16, 16),
        ),
    },
    mmpretrain={
        'HRFuseScales': (
            dict(in_channels=(8, 8, 8, 8), out_channels=64),
            levels(8, 8, 8, 8),
        ),
        'MAEPretrainDecoder': (
            dict(
                num_patches=16, embed_dim=16, decoder_embed_dim=16,
                decoder_depth=4, decoder_num_heads=2,
            ),
            torch.Size((2, 5, 16)),
            lambda: torch.arange(16).repeat(2, 1),
        ),
        'MoCoV2Neck': (
            dict(
                in_channels=16, hid_channels=16, out_channels=16,
                with_avg_pool=False,
            ),
            (torch.Size((2, 16)),),
        ),
        'NonLinearNeck': (
            dict(
                in_channels=16, hid_channels=16, out_channels=16,
                num_layers=4, with_avg_pool=False, norm_cfg=dict(type='BN1d'),
            ),
            (torch.Size((8, 16)),),
        ),
    },
)  # fmt: skip

# Not every release of mmdet has it.
if 'CLRFPN' not in registered('mmdet', 'necks'):
    del TABLES['mmdet']['CLRFPN']

EXCLUDED = dict(mmdet={}, mmseg={}, mmpretrain={})

# No nn.Sequential or nn.ModuleList holds two of their convs of one shape.
NOTHING = {
    ('mmdet', 'conv_cfg'): {
        'BFP', 'NASFCOS_FPN', 'SSDNeck', 'SSH', 'YOLOV3Neck',
    },
    ('mmdet', 'kernel_dna'): {'BFP', 'SSDNeck', 'SSH', 'YOLOV3Neck'},
    ('mmseg', 'conv_cfg'): {'ICNeck'},
    ('mmseg', 'kernel_dna'): {'ICNeck'},
    ('mmpretrain', 'kernel_dna'): {'NonLinearNeck'},
}  # fmt: skip


@pytest.mark.parametrize('library', LIBRARIES)
def test_every_neck_with_a_conv_cfg_is_in_a_table(library):
    """Those that take no conv_cfg may be missing."""
    found = registered(library, 'necks')
    listed = TABLES[library].keys() | EXCLUDED[library].keys()
    assert {name for name in found if takes_conv_cfg(found[name])} <= listed
    assert listed <= found.keys()
    assert not TABLES[library].keys() & EXCLUDED[library].keys()


@pytest.mark.parametrize('case', cases(TABLES, NOTHING))
def test_a_neck_does_all_that_its_plain_twin_does(case, log):
    check(case, log)
