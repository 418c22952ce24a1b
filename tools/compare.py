"""Train a config with several conv types and seeds, and compare them.

Each conv type replaces the config's KernelDNA; everything else stays. The
tool writes table.md, results.json and comparison.png into --work-dir. With
the same --work-dir again, it skips finished runs and resumes others.

Example: python tools/compare.py configs/digits/kdna_r18.py --epochs 6
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from mmengine.device import get_device

from mmkdna import cli
from mmkdna.datasets import prepare_data
from mmkdna.files import write_json
from mmkdna.measure import configs, rows, runs, show, subjects


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.config_parser(__doc__)
    cli.add_timing_arguments(parser, 10, 8, 'all')
    add, one = parser.add_argument, cli.at_least(1)
    text = 'seeds of the runs of each type (default: 0 1 2)'
    add('--seeds', type=int, nargs='+', default=[0, 1, 2], help=text)
    add('--epochs', type=one, help="epochs of a run (default: the config's)")
    add(
        '--anneal',
        type=float,
        default=0.1,
        metavar='FRACTION',
        help='part of the run in which the temperature of DyConv, ODConv and '
        'KernelWarehouse falls (default: 0.1, as published)',
    )
    text = 'default: work_dirs/compare/NAME_OF_THE_CONFIG'
    add('--work-dir', type=Path, help=text)
    args = parser.parse_args(argv)
    if not 0 < args.anneal <= 1:
        parser.error(f'--anneal {args.anneal}: expected above 0, at most 1')
    types = args.types or configs.CONV_TYPES
    configs.conv_cfgs(types)
    cfg = cli.load_config(args.config, args.cfg_options)
    name = Path(args.config).stem
    root = args.work_dir or Path('work_dirs/compare', name)
    if args.epochs is not None:
        runs.shorten(cfg, args.epochs)
    prepare_data(cfg, ['train_dataloader', 'val_dataloader'])
    scores = runs.train_types(
        cfg,
        types,
        args.seeds,
        root,
        args.anneal,
        lambda one: cli.build_runner(one).train(),
    )
    cli.quiet()
    size, device = args.size or configs.input_size(cfg), get_device()
    how = subjects.Conditions(args.batch, size, device)
    build = partial(subjects.config_subject, cfg, how=how)
    built = rows.build_subjects(types, build)
    found = rows.measured(built, 'step', args.rounds, device)
    for kind, row in found.items():
        row['scores'] = scores[kind]
    number, unit = runs.length(cfg)
    seeds = ' '.join(map(str, args.seeds))
    title = f'{name}, seeds {seeds}, {unit} {number}, {device}'
    write_json(dict(title=title, rows=found), root / 'results.json')
    show.draw_scores(found, title, root / 'comparison.png')
    table = show.write_table(show.scores_table(found), root / 'table.md')
    print(f'\n{title}\n\n{table}\nAll of it is in {root}.')


if __name__ == '__main__':
    cli.exit_on_bad_input(main)
