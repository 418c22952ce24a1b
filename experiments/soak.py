"""Train for thousands of steps with resumes in between, and watch for leaks.

A small network with families trains in runs of STEPS / (RESUMES + 1) steps,
each resumed from the one before in the same process, as in a notebook. After
each part the memory is counted: resident set, living tensors, hooks of the
model, open handles, and files of logs and checkpoints. The first half may
settle; in the second half nothing may grow by more than 2 % (hooks, handles
and tensors: not at all; a run has a log of its own). Exits with 1 otherwise.

Example: python experiments/soak.py --steps 3000 --resumes 9
"""

import gc
import os
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.logging import MessageHub, MMLogger
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.visualization import Visualizer
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.data import Dataset

import mmkdna
from mmkdna.backbones import KDNAResNet
from mmkdna.cli import at_least, exit_on_bad_input, plain_parser

COLUMNS = ('MB', 'tensors', 'hooks', 'handles', 'log files', 'checkpoints')
EXACT = ('tensors', 'hooks', 'handles', 'checkpoints')


class Noise(Dataset):
    """Images of noise; the class is which channel is the brightest."""

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = torch.randn(3, 32, 32)
        image[index % 3] += 1
        return image, index % 3


class Small(BaseModel):
    """A ResNet-18 of 8 base channels with families, and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        conv_cfg = dict(type='KernelDNA', min_channels=32)
        self.backbone = KDNAResNet(
            depth=18, stem_channels=8, base_channels=8, conv_cfg=conv_cfg
        )
        self.head = nn.Linear(64, 3)
        mmkdna.form_families(self)

    def forward(self, inputs: list, labels: list, mode: str) -> dict:
        found = self.backbone(torch.stack(inputs))[-1].mean((2, 3))
        loss = nn.functional.cross_entropy(
            self.head(found), torch.tensor(labels)
        )
        return dict(loss=loss)


def collate(items: list) -> dict:
    images, labels = zip(*items, strict=True)
    return dict(inputs=list(images), labels=list(labels))


def part(work_dir: Path, number: int, steps: int) -> Runner:
    """Train up to so many steps, from where the part before ended."""
    runner = Runner(
        model=Small(),
        work_dir=str(work_dir),
        train_dataloader=dict(
            batch_size=4,
            dataset=Noise(),
            sampler=dict(type='InfiniteSampler', shuffle=True),
            collate_fn=collate,
        ),
        train_cfg=dict(by_epoch=False, max_iters=steps),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-3)),
        default_hooks=dict(
            checkpoint=dict(
                type='ResumableCheckpointHook',
                by_epoch=False,
                interval=100,
                max_keep_ckpts=1,
            ),
            logger=dict(type='LoggerHook', interval=50),
        ),
        custom_hooks=[dict(type='EMAHook')],
        randomness=dict(seed=0),
        experiment_name=f'soak_{number}',
        log_level='WARNING',
        resume=True,
    )
    runner.train()
    return runner


def forget() -> None:
    """Close what mmengine keeps of each runner by its name."""
    for kind in (MMLogger, MessageHub, Visualizer):
        for one in kind._instance_dict.values():
            for handler in list(getattr(one, 'handlers', ())):
                handler.close()
        kind._instance_dict.clear()


def counted(model: nn.Module, work_dir: Path) -> dict[str, float]:
    """What there is now."""
    hooks = sum(
        len(value)
        for module in model.modules()
        for key, value in vars(module).items()
        if key.endswith('_hooks') and isinstance(value, dict)
    )
    gc.collect()
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    with warnings.catch_warnings():
        # Some objects of torch warn where they are looked at.
        warnings.simplefilter('ignore')
        tensors = sum(isinstance(o, torch.Tensor) for o in gc.get_objects())
    return {
        'MB': pages * os.sysconf('SC_PAGE_SIZE') / 1e6,
        'tensors': tensors,
        'hooks': hooks,
        'handles': len(os.listdir('/proc/self/fd')),
        'log files': len([*work_dir.rglob('*.log')]),
        'checkpoints': len([*work_dir.glob('*.pth*')]),
    }


def grown(rows: list[dict[str, float]]) -> list[str]:
    """What grows in the second half."""
    middle, last = rows[len(rows) // 2], rows[-1]
    return [
        column
        for column in COLUMNS
        if column in EXACT
        and last[column] > middle[column]
        or column == 'MB'
        and last[column] > 1.02 * middle[column]
    ]


def main(argv: Sequence[str] | None = None) -> None:
    parser = plain_parser(__doc__)
    add, text = parser.add_argument, ' (default: %(default)s)'
    add('--steps', type=at_least(1), default=3000, help='of all parts' + text)
    add('--resumes', type=at_least(3), default=9, help='resumes' + text)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    # It asks the compilers for their versions.
    Runner._log_env = lambda *_: None
    parts = args.resumes + 1
    rows: list[dict[str, float]] = []
    table = Table('steps', *COLUMNS, title='After each part')
    with tempfile.TemporaryDirectory() as folder:
        for number in range(1, parts + 1):
            steps = args.steps * number // parts
            runner = part(Path(folder), number, steps)
            model = runner.model
            del runner
            forget()
            rows.append(counted(model, Path(folder)))
            del model
            values = [f'{rows[-1][column]:.0f}' for column in COLUMNS]
            table.add_row(str(steps), *values)
            print(steps, dict(zip(COLUMNS, values, strict=True)), flush=True)
    Console().print(table)
    if growing := grown(rows):
        sys.exit(f'in the second half grows: {", ".join(growing)}')


if __name__ == '__main__':
    exit_on_bad_input(main)
