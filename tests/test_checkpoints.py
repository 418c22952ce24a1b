"""Checkpoints that an interrupted run goes on from, exactly."""

import os
import random

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

import mmkdna.openmmlab.checkpoints as checkpoints
from mmkdna.checkpoint import read_checkpoint


class Dice(Dataset):
    """Augmentation by each kind of random number."""

    def __len__(self):
        return 12

    def __getitem__(self, i):
        return torch.tensor(
            [i + random.random(), np.random.rand(), float(torch.rand(()))]
        )


class Mean(BaseModel):
    """Three numbers with dropout, that learn."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, inputs, mode='tensor'):
        if mode == 'predict':
            return [None]
        x = nn.functional.dropout(torch.stack(inputs), 0.3, self.training)
        return dict(loss=(x @ self.weight - 1).square().mean())


class Draw(Evaluator):
    """An evaluator whose validation draws random numbers."""

    def __init__(self):
        super().__init__([])
        self.times = 0

    def process(self, *args, **kwargs):
        self.drawn = random.random(), np.random.rand(), torch.rand(())

    def evaluate(self, size):
        self.times += 1
        epoch = MessageHub.get_current_instance().get_info('epoch')
        return dict(score=epoch, other=-epoch)


class Stop(Hook):
    """The end of a run, at once, as by a kill."""

    priority = 'LOWEST'

    def __init__(self, where):
        self.where = where

    def __getattribute__(self, name):
        if name == object.__getattribute__(self, 'where'):
            raise KeyboardInterrupt
        return super().__getattribute__(name)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Make runners of one small training."""
    # It asks the compilers for their versions.
    monkeypatch.setattr(Runner, '_log_env', lambda *args: None)

    def run(
        name,
        by_epoch=True,
        keep=1,
        hooks=(),
        resume=False,
        save_best=None,
    ):
        every = dict(by_epoch=by_epoch, interval=1 if by_epoch else 2)
        ends = dict(max_epochs=3) if by_epoch else dict(max_iters=6)
        sampler = 'DefaultSampler' if by_epoch else 'InfiniteSampler'
        loader = dict(
            batch_size=4,
            dataset=Dice(),
            collate_fn=lambda items: dict(inputs=items),
            sampler=dict(type=sampler, shuffle=True),
        )
        evaluator = Draw()
        runner = Runner(
            model=Mean(),
            work_dir=str(tmp_path / name),
            train_dataloader=loader,
            val_dataloader=loader
            | dict(sampler=dict(type='DefaultSampler', shuffle=False)),
            val_evaluator=evaluator,
            val_cfg=dict(),
            train_cfg=dict(
                by_epoch=by_epoch,
                val_interval=1 if by_epoch else 2,
                **ends,
            ),
            optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.1)),
            default_hooks=dict(
                checkpoint=dict(
                    type='ResumableCheckpointHook',
                    max_keep_ckpts=keep,
                    save_best=save_best,
                    rule='greater' if save_best else None,
                    **every,
                ),
                logger=None,
            ),
            custom_hooks=list(hooks),
            randomness=dict(seed=0),
            experiment_name=f'{tmp_path.name}_{name}_{len(made)}',
            log_level='ERROR',
            resume=resume,
        )
        made.append(runner)
        runner.train()
        return runner

    made = []
    return run


def trained(runner):
    """All numbers of a run, its optimizer's as well."""
    state = runner.optim_wrapper.optimizer.state_dict()['state'][0]
    return torch.cat(
        [runner.model.weight.detach(), state['exp_avg'], state['exp_avg_sq']]
    )


@pytest.mark.parametrize('by_epoch', [True, False])
def test_a_resumed_run_is_the_whole_run_bit_for_bit(run, by_epoch):
    whole = trained(run('whole', by_epoch))
    for where in ('after_val', 'before_val'):
        with pytest.raises(KeyboardInterrupt):
            run(where, by_epoch, hooks=[Stop(where)])
        assert trained(run(where, by_epoch, resume=True)).equal(whole)


def test_random_numbers_differ_from_epoch_to_epoch(run, tmp_path):
    seen = []

    class See(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            seen.append((torch.rand(()).item(), random.random()))

    run('whole', hooks=[See()])
    assert len(set(seen)) == len(seen) == 9


@pytest.mark.parametrize('at', ['checkpoint', 'latest'])
def test_there_is_a_whole_checkpoint_at_any_time(
    run, tmp_path, monkeypatch, at
):
    """max_keep_ckpts=1, and every write of the second one breaks off."""
    work_dir = tmp_path / 'broken'
    write = checkpoints.write_bytes, checkpoints.write_text

    def broken(data, path):
        if work_dir.joinpath('last_checkpoint').exists():
            raise KeyboardInterrupt
        write[at == 'latest'](data, path)

    name = 'write_text' if at == 'latest' else 'write_bytes'
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, name, broken)
        with pytest.raises(KeyboardInterrupt):
            run('broken')
    latest = (work_dir / 'last_checkpoint').read_text()
    assert os.path.basename(latest) == 'epoch_1.pth'
    assert read_checkpoint(latest)['meta']['epoch'] == 1
    run('broken', resume=True)
    assert [p.name for p in work_dir.glob('*.pth*')] == ['epoch_3.pth']


@pytest.mark.parametrize('save_best', ['score', ['score', 'other']])
def test_the_best_is_there_until_the_next_one_is(
    run, tmp_path, monkeypatch, save_best
):
    work_dir, write = tmp_path / 'best', checkpoints.write_bytes

    def best():
        return sorted(path.name for path in work_dir.glob('best*'))

    def broken(data, path):
        if 'best_score_epoch_2' in str(path):
            raise KeyboardInterrupt
        write(data, path)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, 'write_bytes', broken)
        with pytest.raises(KeyboardInterrupt):
            run('best', save_best=save_best)
    assert 'best_score_epoch_1.pth' in best()
    run('best', save_best=save_best, resume=True)
    others = ['best_other_epoch_1.pth'] * (len(save_best) == 2)
    assert best() == [*others, 'best_score_epoch_3.pth']


def test_a_best_that_is_written_again_stays(run, tmp_path):
    """As a run has it that is validated again, by chance with more."""
    runner = run('best', save_best='score')
    runner.message_hub.update_info('best_score', 0)
    runner.val_loop.run()
    found = [path.name for path in (tmp_path / 'best').glob('best*')]
    assert found == ['best_score_epoch_3.pth']


def test_an_older_checkpoint_that_a_kill_spared_goes(
    run, tmp_path, monkeypatch
):
    def killed(*args):
        raise KeyboardInterrupt

    hook = checkpoints.ResumableCheckpointHook
    with monkeypatch.context() as patch:
        patch.setattr(hook, '_remove', killed)
        with pytest.raises(KeyboardInterrupt):
            run('spared')
    found = sorted(p.name for p in (tmp_path / 'spared').glob('*.pth'))
    assert found == ['epoch_1.pth', 'epoch_2.pth']
    run('spared', resume=True)
    found = [p.name for p in (tmp_path / 'spared').glob('*.pth')]
    assert found == ['epoch_3.pth']


@pytest.mark.parametrize(('keep', 'left'), [(-1, 3), (2, 2)])
def test_as_many_checkpoints_stay_as_asked(run, tmp_path, keep, left):
    run('run', keep=keep)
    found = sorted(p.name for p in (tmp_path / 'run').glob('*.pth'))
    assert found == ['epoch_1.pth', 'epoch_2.pth', 'epoch_3.pth'][-left:]


def test_a_run_whose_last_validation_broke_off_is_validated(run, tmp_path):
    def times(runner):
        return runner.val_loop.evaluator.times

    assert times(run('run')) == 3
    assert times(run('run', resume=True)) == 1


def test_another_storage_is_left_to_itself():
    hook = checkpoints.ResumableCheckpointHook
    args = dict(backend='petrel')
    assert hook(backend_args=args).backend_args == args
    assert hook(out_dir='s3://x').backend_args is None
