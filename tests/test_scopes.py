"""Segmentors and classifiers switch by the same conv_cfg."""

import pytest
import torch
from mmengine.registry import init_default_scope

import mmkdna

CONV_CFG = dict(type='KernelDNA')


@pytest.fixture(autouse=True)
def _registered():
    import mmpretrain.models  # noqa: F401
    import mmseg.models  # noqa: F401


def test_a_classifier_of_mmpretrain_has_its_families():
    from mmpretrain.registry import MODELS

    init_default_scope('mmpretrain')
    model = MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=dict(type='ResNet', depth=18, conv_cfg=CONV_CFG),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=10, in_channels=512),
        )
    )
    assert [str(f) for f in mmkdna.list_families(model)] == [
        'backbone.layer3.1.conv1 <- backbone.layer3.1.conv2',
        'backbone.layer4.1.conv1 <- backbone.layer4.1.conv2',
    ]
    assert model(torch.randn(2, 3, 64, 64)).shape == (2, 10)


def test_a_segmentor_of_mmseg_has_its_families():
    from mmseg.registry import MODELS

    init_default_scope('mmseg')
    model = MODELS.build(
        dict(
            type='EncoderDecoder',
            backbone=dict(
                type='ResNetV1c',
                depth=50,
                dilations=(1, 1, 2, 4),
                strides=(1, 2, 1, 1),
                conv_cfg=CONV_CFG,
            ),
            decode_head=dict(
                type='UPerHead',
                in_channels=[256, 512, 1024, 2048],
                in_index=[0, 1, 2, 3],
                channels=256,
                num_classes=19,
                conv_cfg=CONV_CFG,
            ),
            train_cfg=dict(),
            test_cfg=dict(mode='whole'),
        )
    ).eval()
    assert [str(f) for f in mmkdna.list_families(model)] == [
        'backbone.layer3.0.conv2 <- backbone.layer3.1.conv2',
        'backbone.layer3.2.conv2 <- backbone.layer3.3.conv2',
        'backbone.layer3.4.conv2 <- backbone.layer3.5.conv2',
        'backbone.layer4.1.conv2 <- backbone.layer4.2.conv2',
        'decode_head.fpn_convs.1.conv <- decode_head.fpn_convs.2.conv',
    ]
    with torch.no_grad():
        logits = model(torch.randn(1, 3, 64, 64))
    assert logits.shape[:2] == (1, 19)
    assert logits.isfinite().all()
