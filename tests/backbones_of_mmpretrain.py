"""Small arguments and inputs for each backbone of mmpretrain."""

import torch

IMAGE = torch.Size((2, 3, 64, 64))
THIN = dict(stem_channels=8, base_channels=8)
R18 = dict(depth=18, **THIN)
R50 = dict(depth=50, **THIN)
VIT = dict(
    arch=dict(
        embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32
    ),
    img_size=64,
)
HR = dict(
    stage1=dict(
        num_modules=1, num_branches=1, block='BOTTLENECK', num_blocks=(2,),
        num_channels=(8,),
    ),
    stage2=dict(
        num_modules=1, num_branches=2, block='BASIC', num_blocks=(2, 2),
        num_channels=(8, 16),
    ),
    stage3=dict(
        num_modules=1, num_branches=3, block='BASIC', num_blocks=(2, 2, 2),
        num_channels=(8, 16, 16),
    ),
    stage4=dict(
        num_modules=1, num_branches=4, block='BASIC',
        num_blocks=(2, 2, 2, 2), num_channels=(8, 16, 16, 16),
    ),
)  # fmt: skip
REGNET = dict(w0=8, wa=8.0, wm=2.0, group_w=8, depth=8, bot_mul=1.0)
TWINS = dict(
    embed_dims=[8, 16, 16, 16], depths=[2, 2, 2, 2], num_heads=[1, 2, 2, 2]
)
PRETRAIN_TWINS = dict(
    **TWINS, patch_sizes=[4, 2, 2, 2], strides=[4, 2, 2, 2],
    mlp_ratios=[2, 2, 2, 2], sr_ratios=[8, 4, 2, 1],
)  # fmt: skip
FORMER = dict(layers=[2, 2, 2, 2], embed_dims=[8, 12, 16, 24])
REP = dict(
    num_blocks=[2, 2, 2, 2], width_factor=[0.2] * 4, group_layer_map=None,
    se_cfg=None,
)  # fmt: skip

MMPRETRAIN = {
    'AlexNet': (dict(), torch.Size((1, 3, 96, 96))),
    'VisionTransformer': (VIT, IMAGE),
    'BEiTViT': (VIT, IMAGE),
    'Conformer': (
        dict(
            arch=dict(
                embed_dims=16, depths=12, num_heads=2, channel_ratio=1
            ),
            base_channels=8,
        ),
        IMAGE,
    ),
    'ConvMixer': (
        dict(
            arch=dict(
                embed_dims=16, depth=4, patch_size=4, kernel_size=3
            )
        ),
        IMAGE,
    ),
    'ConvNeXt': (
        dict(arch=dict(depths=[2, 2, 2, 2], channels=[8, 8, 16, 16])),
        IMAGE,
    ),
    'ResNet': (R18, IMAGE),
    'ResNetV1c': (R18, IMAGE),
    'ResNetV1d': (R18, IMAGE),
    'ResNeXt': (dict(R50, groups=2, width_per_group=32), IMAGE),
    'CSPDarkNet': (dict(depth=53), IMAGE),
    'CSPResNet': (dict(depth=50), IMAGE),
    'CSPResNeXt': (dict(depth=50), IMAGE),
    'DaViT': (
        dict(
            arch=dict(
                embed_dims=8, depths=[2, 2, 2, 2], num_heads=[1, 1, 2, 2]
            )
        ),
        torch.Size((2, 3, 224, 224)),
    ),
    'DistilledVisionTransformer': (VIT, IMAGE),
    'DeiT3': (VIT, IMAGE),
    'DenseNet': (
        dict(
            arch=dict(
                growth_rate=8, depths=[2, 2, 3, 2], init_channels=8
            )
        ),
        IMAGE,
    ),
    'EdgeNeXt': (
        dict(
            arch=dict(
                channels=[8, 8, 16, 16], depths=[2, 2, 2, 2],
                num_heads=[1, 1, 2, 2],
            )
        ),
        IMAGE,
    ),
    'PoolFormer': (dict(arch=FORMER, out_indices=(2, 6)), IMAGE),
    'EfficientFormer': (
        dict(
            arch=dict(
                FORMER, downsamples=[False, True, True, True], vit_num=2
            )
        ),
        torch.Size((2, 3, 224, 224)),
    ),
    'EfficientNet': (dict(), IMAGE),
    'EfficientNetV2': (dict(), IMAGE),
    'HiViT': (
        dict(
            arch=dict(embed_dims=16, depths=[1, 1, 8], num_heads=2),
            img_size=64, out_indices=[7],
        ),
        IMAGE,
    ),
    'HorNet': (
        dict(
            arch=dict(
                base_dim=16, depths=[2, 2, 2, 2], orders=[2, 2, 2, 2],
                dw_cfg=[dict(type='DW', kernel_size=7)] * 4,
            )
        ),
        IMAGE,
    ),
    'HRNet': (dict(extra=HR), IMAGE),
    'InceptionV3': (
        dict(num_classes=10), torch.Size((2, 3, 80, 80))
    ),
    'LeNet5': (dict(num_classes=10), torch.Size((2, 1, 32, 32))),
    'LeViT': (dict(arch='128s', img_size=64), IMAGE),
    'MixMIMTransformer': (
        dict(
            arch=dict(
                embed_dims=8, depths=[2, 2, 2, 2], num_heads=[1, 1, 2, 2]
            ),
            img_size=64, window_size=[4, 4, 4, 2],
        ),
        IMAGE,
    ),
    'MlpMixer': (
        dict(
            arch=dict(
                embed_dims=16, num_layers=2, tokens_mlp_dims=16,
                channels_mlp_dims=32,
            ),
            img_size=64,
        ),
        IMAGE,
    ),
    'MobileNetV2': (dict(widen_factor=0.25), IMAGE),
    'MobileNetV3': (dict(), IMAGE),
    'MobileOne': (
        dict(
            arch=dict(
                num_blocks=[2, 2, 2, 1], width_factor=[0.125] * 4,
                num_conv_branches=[2, 2, 2, 2],
                num_se_blocks=[0, 0, 1, 1],
            )
        ),
        IMAGE,
    ),
    'MobileViT': (
        dict(
            arch=[
                ['mobilenetv2', 8, 1, 2, 2],
                ['mobilevit', 16, 2, 16, 32, 2, 2],
            ],
            out_indices=(1,),
        ),
        IMAGE,
    ),
    'MViT': (
        dict(
            arch=dict(
                embed_dims=8, num_layers=4, num_heads=1,
                downscale_indices=[2],
            ),
            img_size=64,
        ),
        IMAGE,
    ),
    'RegNet': (dict(arch=REGNET, stem_channels=8), IMAGE),
    'RepLKNet': (
        dict(
            arch=dict(
                large_kernel_sizes=[7, 7, 5, 5], layers=[2, 2, 2, 2],
                channels=[8, 8, 16, 16], small_kernel=3, dw_ratio=1,
            )
        ),
        IMAGE,
    ),
    'RepMLPNet': (
        dict(
            arch=dict(
                channels=[8, 8, 16, 16], depths=[2, 2, 2, 2],
                sharesets_nums=[1, 2, 2, 2],
            ),
            img_size=64,
        ),
        IMAGE,
    ),
    'RepVGG': (dict(arch=REP), IMAGE),
    'Res2Net': (dict(R50, base_width=26), IMAGE),
    'ResNeSt': (R50, IMAGE),
    'ResNet_CIFAR': (dict(R18), torch.Size((2, 3, 32, 32))),
    'RevVisionTransformer': (VIT, IMAGE),
    'RIFormer': (dict(arch=FORMER, out_indices=(2, 6)), IMAGE),
    'SEResNet': (dict(R50, se_ratio=4), IMAGE),
    'SEResNeXt': (
        dict(R50, se_ratio=4, groups=2, width_per_group=32), IMAGE
    ),
    'ShuffleNetV1': (dict(groups=3, widen_factor=0.5), IMAGE),
    'ShuffleNetV2': (dict(widen_factor=0.5), IMAGE),
    'SparseConvNeXt': (
        dict(arch=dict(depths=[2, 2, 2, 2], channels=[8, 8, 16, 16])), IMAGE
    ),
    'SparseResNet': (
        dict(R50, norm_cfg=dict(type='SparseBatchNorm2d')), IMAGE
    ),
    'SwinTransformer': (
        dict(
            arch=dict(
                embed_dims=8, depths=[2, 2, 2, 2], num_heads=[1, 1, 2, 2]
            ),
            img_size=64, window_size=2,
        ),
        IMAGE,
    ),
    'SwinTransformerV2': (
        dict(
            arch=dict(
                embed_dims=8, depths=[2, 2, 2, 2], num_heads=[1, 1, 2, 2],
                extra_norm_every_n_blocks=0,
            ),
            img_size=64, window_size=2,
        ),
        IMAGE,
    ),
    'T2T_ViT': (
        dict(
            img_size=64, embed_dims=16, num_layers=2,
            layer_cfgs=dict(num_heads=2, feedforward_channels=32),
        ),
        IMAGE,
    ),
    'TinyViT': (
        dict(
            arch=dict(
                channels=[8, 8, 16, 16], num_heads=[1, 1, 2, 2],
                depths=[2, 2, 2, 2],
            ),
            img_size=(64, 64),
        ),
        IMAGE,
    ),
    'TNT': (
        dict(
            arch=dict(
                embed_dims_outer=16, embed_dims_inner=8, num_layers=2,
                num_heads_outer=2, num_heads_inner=2,
            ),
            img_size=64,
        ),
        IMAGE,
    ),
    'PCPVT': (dict(arch=PRETRAIN_TWINS), IMAGE),
    'SVT': (
        dict(arch=dict(PRETRAIN_TWINS, window_sizes=[2, 2, 2, 2])), IMAGE
    ),
    'VAN': (
        dict(
            arch=dict(
                embed_dims=[8, 8, 16, 16], depths=[2, 2, 2, 2],
                ffn_ratios=[4, 4, 2, 2],
            )
        ),
        IMAGE,
    ),
    'VGG': (dict(depth=11), IMAGE),
    'Vig': (dict(arch='tiny'), torch.Size((2, 3, 224, 224))),
    'PyramidVig': (dict(arch='tiny'), torch.Size((2, 3, 224, 224))),
    'ViTEVA02': (VIT, IMAGE),
    'ViTSAM': (
        dict(
            VIT,
            arch=dict(VIT['arch'], global_attn_indexes=[1]),
            out_channels=8,
        ),
        IMAGE,
    ),
    'XCiT': (
        dict(
            img_size=64, embed_dims=16, depth=2, num_heads=2,
            cls_attn_layers=2,
        ),
        IMAGE,
    ),
}  # fmt: skip
