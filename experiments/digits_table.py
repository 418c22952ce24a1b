"""The runs of `make digits` in one table, KernelDNA beside the plain twin.

Reads ROOT/kdna_NAME and ROOT/plain_NAME, times training steps of the trained
models in turns, on a batch of their data, and writes ROOT/table.md.

    python experiments/digits_table.py work_dirs/digits
"""

from collections.abc import Sequence
from pathlib import Path

from mmengine.registry import init_default_scope
from mmengine.runner import Runner, load_checkpoint
from scores import write_table

from mmkdna import cli
from mmkdna.datasets import prepare_data
from mmkdna.measure.configs import input_size
from mmkdna.measure.rows import Rows, measured
from mmkdna.measure.runs import SCORES, find_run, last_scores
from mmkdna.measure.show import new_table, number, quartiles
from mmkdna.measure.subjects import Conditions, config_subject
from mmkdna.zoo import load_tensors_only

_RATIO, _SPREAD = number('ratio', '.3f'), quartiles(' ({:.3f} to {:.3f})')
TYPES = dict(KernelDNA='kdna', plain='plain')
COLUMNS = {
    'parameters, M': number('parameters', '.3f', 1e6),
    'multiply-adds, M': number('multiply_adds', '.1f', 1e6),
    **{title: number(title, '.1f') for title, _ in SCORES.values()},
    's a step': number('seconds', '.3f'),
    'ratio (quartiles)': lambda row: _RATIO(row) + _SPREAD(row),
}


def pair(root: Path, name: str, rounds: int) -> Rows:
    """A row for KernelDNA's run, one for its plain twin's."""
    subjects, scores, batch = {}, {}, None
    for kind, prefix in TYPES.items():
        work_dir = root / f'{prefix}_{name}'
        cfg, checkpoint = find_run(work_dir)
        scores[kind] = last_scores(work_dir)
        prepare_data(cfg, ['train_dataloader'])
        init_default_scope(cfg.default_scope)
        if batch is None:
            loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
            batch = next(iter(loader))
        how = Conditions(len(batch['inputs']), input_size(cfg))
        as_it_is = dict(type='KernelDNA')
        subjects[kind] = config_subject(cfg, as_it_is, how, batch)
        load_checkpoint(subjects[kind].model, checkpoint, map_location='cpu')
    rows = measured(subjects, 'step', rounds, 'cpu')
    for kind, row in rows.items():
        row.update(scores[kind])
    for key in ('ratio', 'quartiles'):
        del rows['plain'][key]
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.plain_parser(__doc__)
    parser.add_argument('root', type=Path, help='work dir of the runs')
    text = 'steps timed (default: 10)'
    parser.add_argument(
        '--rounds', type=cli.at_least(2), default=10, help=text
    )
    args = parser.parse_args(argv)
    names = sorted(p.name[len('plain_') :] for p in args.root.glob('plain_*'))
    if not names:
        raise FileNotFoundError(
            f'{args.root} holds no runs plain_*; train them first: make digits'
        )
    load_tensors_only()
    table = new_table('model', '', numbers=COLUMNS, markdown=True)
    for name in names:
        for kind, row in pair(args.root, name, args.rounds).items():
            table.add_row(
                name, kind, *(text(row) for text in COLUMNS.values())
            )
    out = args.root / 'table.md'
    print(write_table(table, out))
    print(f'The same table is in {out}.')


if __name__ == '__main__':
    cli.exit_on_bad_input(main)
