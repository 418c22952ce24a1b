"""Every backbone of mmdet, mmseg and mmpretrain, plain and as KernelDNA."""

import pytest
import torch
from backbones_of_mmpretrain import (
    HR,
    IMAGE,
    MMPRETRAIN,
    R18,
    R50,
    REGNET,
    TWINS,
)
from every_module import LIBRARIES, cases, check, registered
from mmpretrain.models.utils.sparse_modules import SparseHelper

LARGE = torch.Size((2, 3, 128, 128))
SWIN = dict(
    embed_dims=8, depths=(2, 2), num_heads=(1, 2), strides=(4, 2),
    out_indices=(0, 1), window_size=4,
)  # fmt: skip
STDC = dict(
    type='STDCNet', stdc_type='STDCNet1', in_channels=3,
    channels=(8, 8, 16, 16, 16), bottleneck_type='cat', num_convs=4,
    norm_cfg=dict(type='BN'), act_cfg=dict(type='ReLU'),
)  # fmt: skip

TABLES = dict(
    mmdet={
        'CSPDarknet': (dict(deepen_factor=0.67, widen_factor=0.125), IMAGE),
        'CSPNeXt': (dict(deepen_factor=0.67, widen_factor=0.125), IMAGE),
        'Darknet': (dict(), IMAGE),
        'ResNet': (R18, IMAGE),
        'ResNetV1d': (R18, IMAGE),
        'DetectoRS_ResNet': (R50, IMAGE),
        'DetectoRS_ResNeXt': (dict(R50, groups=2), IMAGE),
        'EfficientNet': (dict(), IMAGE),
        'HourglassNet': (
            dict(
                downsample_times=2, num_stacks=2, stage_channels=(8, 8, 16),
                stage_blocks=(2, 2, 4), feat_channel=8,
            ),
            IMAGE,
        ),
        'HRNet': (dict(extra=HR), IMAGE),
        'MobileNetV2': (dict(widen_factor=0.25), IMAGE),
        'PyramidVisionTransformer': (
            dict(
                pretrain_img_size=64, embed_dims=8, num_layers=[2, 2, 2, 2],
                num_heads=[1, 1, 2, 2],
            ),
            IMAGE,
        ),
        'PyramidVisionTransformerV2': (
            dict(
                embed_dims=8, num_layers=[2, 2, 2, 2], num_heads=[1, 1, 2, 2]
            ),
            IMAGE,
        ),
        'ResNeXt': (dict(R50, groups=2), IMAGE),
        'RegNet': (dict(arch=REGNET, stem_channels=8), IMAGE),
        'Res2Net': (dict(R50, base_width=26), IMAGE),
        'ResNeSt': (R50, IMAGE),
        'SSDVGG': (dict(depth=11, out_feature_indices=(14, 20)), IMAGE),
        'SwinTransformer': (SWIN, IMAGE),
        'TridentResNet': (
            dict(
                R50, num_branch=3, test_branch_idx=1, num_stages=3,
                strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2,),
                trident_dilations=(1, 2, 3),
                init_cfg=dict(type='Kaiming', layer=['Conv2d', 'TridentConv']),
            ),
            IMAGE,
        ),
    },
    mmseg={
        'VisionTransformer': (
            dict(img_size=64, embed_dims=16, num_layers=2, num_heads=2),
            IMAGE,
        ),
        'BEiT': (
            dict(img_size=64, embed_dims=16, num_layers=2, num_heads=2),
            IMAGE,
        ),
        'BiSeNetV1': (
            dict(
                backbone_cfg=dict(type='ResNet', **R18),
                spatial_channels=(8, 8, 8, 16), context_channels=(16, 32, 64),
                out_channels=16,
            ),
            IMAGE,
        ),
        'BiSeNetV2': (
            dict(
                detail_channels=(8, 8, 16), semantic_channels=(8, 8, 8, 16),
                bga_channels=16, semantic_expansion_ratio=2,
            ),
            IMAGE,
        ),
        'CGNet': (
            dict(num_channels=(8, 16, 16), num_blocks=(2, 3)), IMAGE
        ),
        'DDRNet': (dict(channels=8, ppm_channels=8), LARGE),
        'ERFNet': (
            dict(
                enc_downsample_channels=(8, 16, 24),
                enc_non_bottleneck_channels=(16, 24),
                dec_upsample_channels=(16, 8),
                dec_non_bottleneck_channels=(16, 8),
            ),
            IMAGE,
        ),
        'FastSCNN': (
            dict(
                downsample_dw_channels=(8, 8), global_in_channels=16,
                global_block_channels=(16, 16, 16), global_out_channels=16,
                higher_in_channels=16, lower_in_channels=16,
                fusion_out_channels=16,
            ),
            IMAGE,
        ),
        'ResNet': (R18, IMAGE),
        'ResNetV1c': (R18, IMAGE),
        'ResNetV1d': (R18, IMAGE),
        'HRNet': (dict(extra=HR), IMAGE),
        'ICNet': (
            dict(
                backbone_cfg=dict(type='ResNetV1c', **R50),
                layer_channels=(64, 256), light_branch_middle_channels=8,
                psp_out_channels=16, out_channels=(8, 16, 16),
            ),
            LARGE,
        ),
        'MAE': (
            dict(img_size=64, embed_dims=16, num_layers=2, num_heads=2),
            IMAGE,
        ),
        'MixVisionTransformer': (
            dict(
                embed_dims=8, num_layers=[2, 2, 2, 2], num_heads=[1, 1, 2, 2]
            ),
            IMAGE,
        ),
        'MobileNetV2': (dict(widen_factor=0.25), IMAGE),
        'MobileNetV3': (dict(), IMAGE),
        'MSCAN': (
            dict(
                embed_dims=[8, 8, 16, 16], depths=[2, 2, 2, 2],
                norm_cfg=dict(type='BN'),
            ),
            IMAGE,
        ),
        'PIDNet': (dict(channels=8, ppm_channels=8), LARGE),
        'ResNeSt': (R50, IMAGE),
        'ResNeXt': (dict(R50, groups=2), IMAGE),
        'STDCNet': ({k: v for k, v in STDC.items() if k != 'type'}, IMAGE),
        'STDCContextPathNet': (
            dict(
                backbone_cfg=STDC, last_in_channels=(16, 16), out_channels=16,
                ffm_cfg=dict(in_channels=32, out_channels=16, scale_factor=4),
            ),
            IMAGE,
        ),
        'SwinTransformer': (SWIN, IMAGE),
        'PCPVT': (TWINS, IMAGE),
        'SVT': (
            dict(
                embed_dims=[8, 16, 16], depths=[2, 2, 2], num_heads=[1, 2, 2]
            ),
            IMAGE,
        ),
        'DeconvModule': (
            dict(in_channels=8, out_channels=8), torch.Size((2, 8, 16, 16))
        ),
        'InterpConv': (
            dict(in_channels=8, out_channels=8), torch.Size((2, 8, 16, 16))
        ),
        'UNet': (dict(base_channels=8, enc_num_convs=(3,) * 5), IMAGE),
    },
    mmpretrain=MMPRETRAIN,
)  # fmt: skip

EXCLUDED = dict(
    mmdet={},
    mmseg=dict(
        TIMMBackbone='timm is not installed',
        VPD='needs ldm, which is not installed',
    ),
    mmpretrain=dict(
        TIMMBackbone='timm is not installed',
    ),
)

# The modules' eligible layers are all 1x1, or of a class of their own.
NOTHING = {
    ('mmdet', 'conv_cfg'): {'CSPNeXt', 'EfficientNet', 'MobileNetV2'},
    ('mmseg', 'conv_cfg'): {
        'BiSeNetV1', 'BiSeNetV2', 'ERFNet', 'FastSCNN', 'ICNet',
        'InterpConv', 'MobileNetV2', 'MobileNetV3',
    },
    ('mmpretrain', 'conv_cfg'): {
        'CSPResNeXt', 'EfficientNet', 'EfficientNetV2', 'MobileNetV2',
        'MobileNetV3', 'MobileOne', 'MobileViT', 'RepLKNet', 'RepMLPNet',
        'RepVGG', 'ShuffleNetV1', 'ShuffleNetV2', 'SparseResNet',
    },
    ('mmseg', 'kernel_dna'): {
        'DeconvModule', 'ERFNet', 'InterpConv', 'MobileNetV3',
    },
    ('mmpretrain', 'kernel_dna'): {
        'AlexNet', 'Conformer', 'InceptionV3', 'LeNet5', 'LeViT',
        'MobileNetV3', 'MobileOne', 'RIFormer', 'RepLKNet', 'RepMLPNet',
        'RepVGG', 'SparseResNet',
    },
}  # fmt: skip

SLOW = {
    'CSPDarkNet', 'CSPResNeXt', 'CSPResNet', 'Darknet', 'EfficientNetV2',
    'InceptionV3', 'PyramidVig', 'Vig',
}  # fmt: skip


@pytest.mark.parametrize('library', LIBRARIES)
def test_every_registered_backbone_is_in_a_table(library):
    found = registered(library, 'backbones').keys()
    assert found == TABLES[library].keys() | EXCLUDED[library].keys()
    assert not TABLES[library].keys() & EXCLUDED[library].keys()


@pytest.mark.parametrize('case', cases(TABLES, NOTHING, slow=SLOW))
def test_a_backbone_does_all_that_its_plain_twin_does(case, log, monkeypatch):
    # Sparse networks read what is not masked from there.
    seen = torch.ones(2, 1, 2, 2, dtype=torch.bool)
    monkeypatch.setattr(SparseHelper, '_cur_active', seen)
    check(case, log)
