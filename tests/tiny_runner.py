"""A run of mmengine's runner whose checkpoints are a few KB.

`python tests/tiny_runner.py` writes one to `tests/files`, named after the
major version of numpy: `python` is that of a stack.
"""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

FILES = Path(__file__).parent / 'files'


class Line(BaseModel):
    """A line through the origin."""

    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.zeros(1))

    def forward(self, x, mode='tensor'):
        error = torch.stack(x) * (self.slope - 2)
        return dict(loss=error.square().mean())


def run(work_dir, epochs=1, **kwargs):
    """The runner, trained; each epoch is two steps and a checkpoint."""
    runner = Runner(
        model=Line(),
        work_dir=str(work_dir),
        train_dataloader=dict(
            batch_size=2,
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=[torch.tensor(float(x)) for x in range(1, 5)],
            collate_fn=lambda items: dict(x=items),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type='Adam', lr=0.1)),
        param_scheduler=dict(type='ExponentialLR', gamma=0.5, end=9),
        randomness=dict(seed=0),
        # The runs of a process that have one name share what they log.
        experiment_name='_'.join(Path(work_dir).parts[-2:]),
        log_level='ERROR',
        **kwargs,
    )
    runner.train()
    return runner


if __name__ == '__main__':
    with tempfile.TemporaryDirectory() as folder:
        run(folder)
        major = np.__version__.partition('.')[0]
        target = FILES / f'runner_numpy{major}.pth'
        shutil.copy(Path(folder, 'epoch_1.pth'), target)
    print(f'{target}: {target.stat().st_size} bytes')
