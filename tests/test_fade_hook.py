"""KernelFadeHook in real runs of mmengine's runner."""

import copy
import json
from pathlib import Path

import pytest
import torch
from conftest import Stages  # noqa: F401  registers the backbone
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.runner import Runner
from torch.utils.data import Dataset

import mmkdna
from mmkdna.adoption import KernelFadeHook, residual_names
from mmkdna.adoption.teacher import FeatureTeacher
from mmkdna.errors import BadInput

STEPS = 8


@MODELS.register_module()
class Averager(BaseModel):
    """A backbone trained to give the mean of its input."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = MODELS.build(backbone)
        self.first_loss = None

    def forward(self, inputs, mode='tensor'):
        x = torch.stack(inputs) if isinstance(inputs, list) else inputs
        out = self.backbone(x)
        if mode != 'loss':
            return out
        loss = (out.mean((2, 3)) - x.mean((2, 3)).flip(1)).square().mean()
        if self.first_loss is None:
            self.first_loss = float(loss)
        return dict(loss=loss)


class Noise(Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, i):
        generator = torch.Generator().manual_seed(i)
        return torch.randn(16, 8, 8, generator=generator)


def model_cfg(shared=True, **backbone):
    cfg = dict(type='Stages', depths=[3], channels=16, **backbone)
    if shared:
        cfg['conv_cfg'] = dict(type='KernelDNA', min_channels=16)
    return dict(type='Averager', backbone=cfg)


def runner(work_dir, hooks=({},), steps=STEPS, every=4, **cfg):
    """A run of some steps; ``hooks`` are the arguments of KernelFadeHook."""
    custom_hooks = [
        dict(type='KernelFadeHook', **arguments)
        if 'type' not in arguments
        else arguments
        for arguments in hooks
    ]
    return Runner(
        **{
            'model': model_cfg(),
            'work_dir': str(work_dir),
            'train_dataloader': dict(
                batch_size=4,
                sampler=dict(type='DefaultSampler', shuffle=False),
                dataset=Noise(),
                collate_fn=lambda items: dict(inputs=items),
            ),
            'train_cfg': dict(by_epoch=False, max_iters=steps),
            'optim_wrapper': dict(
                optimizer=dict(type='AdamW', lr=1e-2, weight_decay=0.01)
            ),
            'custom_hooks': custom_hooks,
            'default_hooks': dict(
                checkpoint=dict(
                    type='CheckpointHook', by_epoch=False, interval=every
                ),
                logger=None,
            ),
            'randomness': dict(seed=0),
            'experiment_name': f'{work_dir.name}_{id(work_dir)}',
            **cfg,
        }
    )


@pytest.fixture
def plain(tmp_path):
    """A plain network on disk, trained so that it is no more at its start."""
    run = runner(tmp_path / 'plain', hooks=(), model=model_cfg(shared=False))
    run.train()
    model = run.model
    return model, str(tmp_path / 'plain' / f'iter_{STEPS}.pth')


def first_loss(model):
    """Of a model as it would start the run."""
    model = copy.deepcopy(model).train()
    batch = torch.stack([Noise()[i] for i in range(4)])
    return float(model(batch, mode='loss')['loss'])


def log_of(run):
    return Path(run.log_dir, f'{run.timestamp}.log').read_text()


def test_from_a_plain_checkpoint_to_a_pure_one(plain, tmp_path):
    model, path = plain
    run = runner(tmp_path / 'kdna', (dict(end=0.9),), load_from=path)
    run.train()
    assert run.model.first_loss == pytest.approx(first_loss(model), rel=1e-5)
    assert residual_names(run.model) == []
    half = torch.load(tmp_path / 'kdna' / 'iter_4.pth', weights_only=False)
    end = torch.load(tmp_path / 'kdna' / 'iter_8.pth', weights_only=False)
    left = set(half['state_dict']) - set(end['state_dict'])
    assert {key.rpartition('.')[2] for key in left} == {'residual', 'fade'}
    fresh = MODELS.build(model_cfg())
    assert sum(p.numel() for p in run.model.parameters()) == sum(
        p.numel() for p in fresh.parameters()
    )


def test_init_cfg_starts_the_same(plain, tmp_path):
    """A Pretrained backbone is loaded after the hook's and EMA's start."""
    model, path = plain

    run = runner(tmp_path / 'kdna', hooks=(dict(end=1.0),))
    init = dict(type='Pretrained', checkpoint=path)
    run.model.init_cfg = init
    run.train()
    assert run.model.first_loss == pytest.approx(first_loss(model), rel=1e-5)
    assert residual_names(run.model) == []


@pytest.mark.parametrize('end', [0.9, 0.3])
def test_resumed_in_mid_fade_is_the_same_run(plain, tmp_path, end):
    """Or after the fade, the teacher still there."""
    _, path = plain
    hooks = (dict(begin=0.1, end=end, teacher_end=0.9),)
    whole = runner(tmp_path / 'whole', hooks, load_from=path)
    whole.train()
    half = tmp_path / 'whole' / 'iter_4.pth'
    saved = torch.load(half, weights_only=False)['state_dict']
    fades = [v for k, v in saved.items() if k.endswith('.fade')]
    assert bool(fades) == (end == 0.9)
    assert all(0 < float(t) < 1 for t in fades)
    resumed = runner(
        tmp_path / 'resumed', hooks, load_from=str(half), resume=True
    )
    resumed.train()
    ours, theirs = resumed.model.state_dict(), whole.model.state_dict()
    assert list(ours) == list(theirs)
    for key, value in ours.items():
        assert torch.equal(value, theirs[key]), key


@pytest.mark.parametrize('update_buffers', [False, True])
@pytest.mark.parametrize('start', ['load_from', 'init_cfg'])
def test_averaged_models_fade_too(plain, tmp_path, start, update_buffers):
    model, path = plain
    ema = dict(type='EMAHook', momentum=0.5, update_buffers=update_buffers)
    run = runner(
        tmp_path / 'kdna',
        hooks=(ema, dict(begin=0.2, end=0.8)),
        every=2,
        load_from=path if start == 'load_from' else None,
    )
    if start == 'init_cfg':
        run.model.init_cfg = dict(type='Pretrained', checkpoint=path)
    run.train()
    early = torch.load(tmp_path / 'kdna' / 'iter_2.pth', weights_only=False)
    for weights in (early['state_dict'], early['ema_state_dict']):
        assert [k for k in weights if k.endswith('.residual')]
    late = torch.load(tmp_path / 'kdna' / 'iter_8.pth', weights_only=False)
    for weights in (late['state_dict'], late['ema_state_dict']):
        assert not [k for k in weights if k.endswith('.residual')]
    resumed = runner(
        tmp_path / 'resumed',
        hooks=(ema, dict(begin=0.2, end=0.8)),
        every=2,
        load_from=str(tmp_path / 'kdna' / 'iter_4.pth'),
        resume=True,
    )
    resumed.train()
    for key, value in resumed.model.state_dict().items():
        assert torch.equal(value, run.model.state_dict()[key]), key


def test_a_plain_run_resumed_keeps_its_iteration(plain, tmp_path):
    _, path = plain
    run = runner(
        tmp_path / 'kdna',
        steps=2 * STEPS,
        hooks=(dict(begin=0.5, end=0.9),),
        load_from=path,
        resume=True,
    )
    run.train()
    assert 'optimizer starts anew' in log_of(run)
    assert run.iter == 2 * STEPS
    assert residual_names(run.model) == []


def test_a_run_that_ends_early_says_so(plain, tmp_path):
    _, path = plain
    run = runner(tmp_path / 'kdna', load_from=path)
    fade = next(h for h in run.hooks if isinstance(h, KernelFadeHook))
    fade.fade = lambda progress: 0.5
    run.train()
    assert 'convert_checkpoint.py --drop-residual' in log_of(run)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(begin=0.5, end=0.5), 'begin=0.5, end=0.5'),
        (dict(begin=0.6, end=0.5), 'begin < end'),
        (dict(begin=-0.1), 'fractions of the run'),
        (dict(end=1.5), 'fractions of the run'),
        (dict(shape='square'), "'cosine', 'linear'"),
        (dict(teacher=-1), 'teacher=-1'),
        (dict(teacher_end=2), 'teacher_end=2'),
    ],
)
def test_schedules_that_make_no_sense(arguments, message):
    with pytest.raises(BadInput, match=message):
        KernelFadeHook(**arguments)


@pytest.mark.parametrize('shape', ['cosine', 'linear'])
def test_schedule(shape):
    hook = KernelFadeHook(begin=0.2, end=0.6, shape=shape)
    t = [hook.fade(i / 10) for i in range(11)]
    assert t[:3] == [0, 0, 0]
    assert t[6:] == [1] * 5
    assert t == sorted(t)
    assert hook.fade(0.4) == pytest.approx(0.5)


def losses_of(run):
    lines = Path(run.log_dir, 'vis_data', 'scalars.json').read_text()
    return [json.loads(line) for line in lines.splitlines()]


def test_the_plain_network_teaches_features(plain, tmp_path):
    model, path = plain
    run = runner(
        tmp_path / 'kdna',
        hooks=(dict(end=0.4, teacher=3.0, teacher_end=0.7),),
        load_from=path,
        every=2,
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1),
            checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2),
        ),
    )
    keys = list(run.model.state_dict())
    run.train()
    taught = [line.get('loss_features') for line in losses_of(run)]
    # The student starts as its teacher, its norms but in the other mode.
    assert all(loss > 0 for loss in taught[:5])
    assert taught[5:] == [None] * 3
    assert list(run.model.state_dict()) == keys
    assert not run.model.backbone._forward_pre_hooks
    assert 'parse_losses' not in vars(run.model)
    saved = torch.load(tmp_path / 'kdna' / 'iter_4.pth', weights_only=False)
    teacher = saved['kernel_fade_teacher']
    for key, value in model.backbone.state_dict().items():
        if key in teacher:
            assert torch.equal(teacher[key], value), key
    late = torch.load(tmp_path / 'kdna' / 'iter_6.pth', weights_only=False)
    assert 'kernel_fade_teacher' not in late


def test_features_are_compared_with_the_plain_networks(plain):
    model, path = plain
    twin = MODELS.build(model_cfg()).backbone
    mmkdna.keep_residuals(twin)
    twin.load_state_dict(model.backbone.state_dict())
    teacher = FeatureTeacher(twin)
    x = torch.randn(4, 16, 8, 8)
    mmkdna.set_fade(twin, 0.5)
    twin.train()
    ours = twin(x)
    loss = teacher.loss()
    with torch.no_grad():
        theirs = model.backbone.eval()(x)
    expected = (ours - theirs).square().mean() / theirs.square().mean()
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert twin.stages[0][0].conv.conv.weight.grad.abs().sum() > 0
    twin.eval()
    twin(x)
    assert not teacher.ours
    teacher.close()


def test_nothing_to_fade(tmp_path):
    run = runner(tmp_path / 'kdna')
    before = list(run.model.state_dict())
    run.train()
    assert list(run.model.state_dict()) == before
    assert mmkdna.list_families(run.model)
