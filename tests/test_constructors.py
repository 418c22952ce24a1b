"""Constructors that copy an encoder, or load a teacher into a part."""

import copy

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.registry import MODELS, init_default_scope

import mmkdna

CONV_CFG = dict(type='KernelDNA', min_channels=32)
R18 = dict(
    type='ResNet',
    depth=18,
    base_channels=16,
    norm_cfg=dict(type='BN'),
    conv_cfg=CONV_CFG,
)


def mlp(channels, pool, **kwargs):
    return dict(
        type='NonLinearNeck',
        in_channels=channels,
        hid_channels=16,
        out_channels=16,
        num_layers=2,
        with_avg_pool=pool,
        **kwargs,
    )


def neck(kind, **kwargs):
    return dict(
        type=kind, in_channels=128, hid_channels=16, out_channels=16, **kwargs
    )


COSINE = dict(type='CosineSimilarityLoss')
CONTRAST = dict(type='ContrastiveHead', loss=dict(type='CrossEntropyLoss'))
PREDICT = dict(type='LatentPredictHead', loss=COSINE, predictor=mlp(16, False))
QUEUE = dict(queue_len=16, feat_dim=16, momentum=0.1, head=CONTRAST)
METHODS = {
    'MoCo': dict(QUEUE, neck=neck('MoCoV2Neck')),
    'DenseCL': dict(QUEUE, neck=neck('DenseCLNeck')),
    'BYOL': dict(base_momentum=0.1, neck=mlp(128, True), head=PREDICT),
    'MoCoV3': dict(
        base_momentum=0.1,
        neck=mlp(128, True),
        head=dict(
            type='MoCoV3Head',
            predictor=mlp(16, False),
            loss=dict(type='CrossEntropyLoss'),
        ),
    ),
    'SimSiam': dict(neck=mlp(128, True), head=PREDICT),
    'SimCLR': dict(neck=mlp(128, True), head=CONTRAST),
    'BarlowTwins': dict(
        neck=mlp(128, True),
        head=dict(
            type='LatentCrossCorrelationHead',
            in_channels=16,
            loss=dict(type='CrossCorrelationLoss'),
        ),
    ),
    'SwAV': dict(
        neck=neck('SwAVNeck', with_avg_pool=True),
        head=dict(
            type='SwAVHead',
            loss=dict(
                type='SwAVLoss',
                feat_dim=16,
                num_crops=[2, 0],
                num_prototypes=8,
            ),
        ),
    ),
}
MOMENTUM = {
    'MoCo': 'encoder_k',
    'DenseCL': 'encoder_k',
    'BYOL': 'target_net',
    'MoCoV3': 'momentum_encoder',
}


@pytest.fixture
def self_supervised():
    import mmpretrain.models  # noqa: F401

    init_default_scope('mmpretrain')
    hub = MessageHub.get_current_instance()
    before = dict(hub.runtime_info)
    # The momentum follows the progress of a run.
    for name in ('max_iters', 'max_epochs'):
        hub.update_info(name, 10)
    for name in ('iter', 'epoch'):
        hub.update_info(name, 0)

    def build(name):
        cfg = copy.deepcopy(METHODS[name])
        pre = dict(type='SelfSupDataPreprocessor', mean=[0] * 3, std=[1] * 3)
        return MODELS.build(
            dict(type=name, backbone=R18, data_preprocessor=pre, **cfg)
        )

    yield build
    hub.runtime_info.clear()
    hub.runtime_info.update(before)


@pytest.mark.parametrize('name', METHODS)
def test_a_self_supervised_model_has_its_families_and_trains(
    name, self_supervised
):
    from mmpretrain.structures import DataSample

    model = self_supervised(name).train()
    encoders = ['backbone', *filter(None, [MOMENTUM.get(name)])]
    families = mmkdna.list_families(model)
    assert [f.parent.name.split('.')[0] for f in families] == [
        encoder for encoder in encoders for _ in range(3)
    ]
    for family in families:
        children = {child.name.split('.')[0] for child in family.children}
        assert children == {family.parent.name.split('.')[0]}
    if name in MOMENTUM:
        online, copied = (
            {
                tensor.untyped_storage().data_ptr()
                for tensor in getattr(model, encoder).state_dict().values()
            }
            for encoder in encoders
        )
        assert online.isdisjoint(copied)

    before = copy.deepcopy(model.state_dict())
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.SGD(trained.values(), lr=0.1)
    for _ in range(2):
        views = [torch.randn(4, 3, 32, 32) for _ in range(2)]
        samples = [DataSample() for _ in range(4)]
        losses = model(views, samples, mode='loss')
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    after = model.state_dict()
    for key, parameter in trained.items():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
    for family in families:
        changed = f'{family.children[0].name}.adapter.routing.bias'
        assert not torch.equal(after[changed], before[changed]), changed


def gfl(conv_cfg, head='GFLHead', **kwargs):
    """A detector as small as one can be."""
    strides = [16, 32]
    return dict(
        type='GFL',
        backbone=dict(R18, conv_cfg=conv_cfg),
        neck=dict(
            type='FPN',
            in_channels=[16, 32, 64, 128],
            out_channels=16,
            start_level=2,
            num_outs=2,
        ),
        bbox_head=dict(
            type=head,
            num_classes=3,
            in_channels=16,
            feat_channels=16,
            stacked_convs=1,
            norm_cfg=dict(type='GN', num_groups=4),
            anchor_generator=dict(
                type='AnchorGenerator',
                ratios=[1.0],
                octave_base_scale=8,
                scales_per_octave=1,
                strides=strides,
            ),
            loss_cls=dict(type='QualityFocalLoss'),
            loss_bbox=dict(type='GIoULoss'),
            **kwargs,
        ),
        train_cfg=dict(assigner=dict(type='ATSSAssigner', topk=9)),
    )


@pytest.mark.parametrize(
    'kind', ['KnowledgeDistillationSingleStageDetector', 'LAD']
)
def test_a_teacher_loads_its_checkpoint_inside_the_constructor(kind, tmp_path):
    import mmdet.models  # noqa: F401

    init_default_scope('mmdet')
    teacher = MODELS.build(gfl(CONV_CFG)).eval()
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    file = str(tmp_path / 'teacher.pth')
    torch.save(dict(state_dict=teacher.state_dict(), meta={}), file)

    distillation = dict(type='KnowledgeDistillationKLDivLoss', T=10)
    student = gfl(None, 'LDHead', loss_ld=distillation)
    cfg = gfl(CONV_CFG)
    if kind == 'LAD':
        parts = ('backbone', 'neck', 'bbox_head')
        given = {f'teacher_{part}': cfg[part] for part in parts}
    else:
        given = dict(teacher_config=dict(model=cfg))
    model = MODELS.build(
        {**student, 'type': kind, 'teacher_ckpt': file} | given
    )
    model.init_weights()
    loaded = model.teacher_model.eval()
    assert len(mmkdna.list_families(loaded)) == 3
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for ours, expected in zip(
            loaded.neck(loaded.backbone(x)),
            teacher.extract_feat(x),
            strict=True,
        ):
            assert torch.equal(ours, expected)


def test_a_semi_supervised_detector_has_families_in_both_of_its_models():
    import mmdet.models  # noqa: F401

    init_default_scope('mmdet')
    model = MODELS.build(
        dict(
            type='SemiBaseDetector',
            detector=gfl(CONV_CFG),
            semi_train_cfg=dict(freeze_teacher=True),
            semi_test_cfg=dict(predict_on='teacher'),
        )
    )
    families = mmkdna.list_families(model)
    parts = [f.parent.name.split('.')[0] for f in families]
    assert parts == ['student'] * 3 + ['teacher'] * 3
    assert not any(p.requires_grad for p in model.teacher.parameters())


def test_listed_families_of_the_papers_resnet_form_in_a_classifier():
    import mmpretrain.models  # noqa: F401

    import mmkdna.backbones

    init_default_scope('mmpretrain')
    listed = [['layer4.1.conv2', 'layer4.1.conv1']]
    model = MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=dict(
                type='KDNAResNet',
                depth=18,
                conv_cfg=dict(type='KernelDNA', families=listed),
            ),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=3, in_channels=512),
        )
    ).eval()
    assert list(map(str, mmkdna.list_families(model))) == [
        'backbone.layer4.1.conv2 <- backbone.layer4.1.conv1'
    ]
    assert model(torch.randn(1, 3, 32, 32)).shape == (1, 3)
