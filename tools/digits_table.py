"""The digits runs in one table, KernelDNA beside the plain twin.

Reads ROOT/kdna_NAME and ROOT/plain_NAME, written by `make digits`, times
training steps of the trained models in turns, and writes ROOT/table.md.

Example: python tools/digits_table.py work_dirs/digits
"""

import argparse
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner, load_checkpoint
from rich import box
from rich.table import Table

from mmkdna.cli import exit_on_bad_input, write_table
from mmkdna.datasets import prepare_data
from mmkdna.measure import (
    Ratio,
    Trainee,
    input_size,
    interleave,
    multiply_adds,
)
from mmkdna.measure.runs import SCORES, read_run
from mmkdna.zoo import load_tensors_only

BATCHES = 5


def trained(cfg: Config, checkpoint: str) -> Trainee:
    trainee = Trainee(cfg)
    load_tensors_only()
    load_checkpoint(trainee.model, checkpoint, map_location='cpu')
    return trainee


def add_pair(table: Table, root: Path, name: str, rounds: int) -> None:
    """A row for KernelDNA's run, one for its plain twin's."""
    runs = {
        kind: read_run(root / f'{prefix}_{name}')
        for kind, prefix in (('KernelDNA', 'kdna'), ('plain', 'plain'))
    }
    cfg = runs['plain'][0]
    prepare_data(cfg, ['train_dataloader'])
    trainees = {kind: trained(*run[:2]) for kind, run in runs.items()}
    loader = iter(Runner.build_dataloader(cfg.train_dataloader, seed=0))
    batches = [next(loader) for _ in range(BATCHES)]

    def steps(trainee: Trainee) -> Callable[[int], None]:
        return lambda number: trainee.step(batches[number % BATCHES])

    seconds = interleave(
        {kind: steps(trainee) for kind, trainee in trainees.items()}, rounds
    )
    ratio = Ratio.between(seconds['KernelDNA'], seconds['plain'])
    for kind, (config, _, scores) in runs.items():
        model = trainees[kind].model
        count = multiply_adds(model, input_size(config))
        table.add_row(
            name,
            kind,
            f'{sum(p.numel() for p in model.parameters()) / 1e6:.3f}',
            f'{count / 1e6:.1f}',
            *(
                f'{factor * scores[key]:.1f}' if key in scores else ''
                for key, (_, factor) in SCORES.items()
            ),
            f'{statistics.median(seconds[kind]):.3f}',
            str(ratio) if kind == 'KernelDNA' else '',
        )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('root', type=Path, help='work dir of the runs')
    parser.add_argument(
        '--rounds', type=int, default=10, help='steps timed (default: 10)'
    )
    args = parser.parse_args(argv)
    names = sorted(p.name[len('plain_') :] for p in args.root.glob('plain_*'))
    if not names:
        raise FileNotFoundError(
            f'{args.root} holds no runs plain_*; train them first: make digits'
        )
    table = Table(box=box.MARKDOWN)
    for title in ('model', ''):
        table.add_column(title)
    scores = [title for title, _ in SCORES.values()]
    for title in ('parameters, M', 'multiply-adds, M', *scores, 's a step'):
        table.add_column(title, justify='right')
    table.add_column('ratio (quartiles)', justify='right')
    for name in names:
        add_pair(table, args.root, name, args.rounds)
    out = args.root / 'table.md'
    print(write_table(table, out))
    print(f'The same table is in {out}.')


if __name__ == '__main__':
    exit_on_bad_input(main)
