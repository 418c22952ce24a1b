"""Train a config with several conv types and seeds, and compare them.

Each conv type replaces the config's KernelDNA; everything else stays. The
tool writes table.md, results.json and comparison.png into --work-dir. With
the same --work-dir again, it skips finished runs and resumes others.

Example: python experiments/compare.py configs/digits/kdna_r18.py --epochs 6
"""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from mmengine.config import Config
from mmengine.device import get_device
from scores import draw_scores, scores_table, write_table

from mmkdna import cli
from mmkdna.datasets import prepare_data
from mmkdna.errors import BadInput
from mmkdna.files import write_json
from mmkdna.measure import rows, subjects
from mmkdna.measure.configs import (
    CONV_TYPES,
    conv_cfgs,
    input_size,
    twin_of,
)
from mmkdna.measure.runs import SCORES, last_scores
from mmkdna.peers import TYPES


def shorten(cfg: Config, epochs: int) -> None:
    """Shorten a run that trains by epochs, and its schedule."""
    before = cfg.train_cfg.get('max_epochs')
    if before is None:
        raise BadInput(
            f'--epochs {epochs}: {cfg.filename} trains by iterations; '
            'expected --cfg-options train_cfg.max_iters=N instead'
        )
    # Validate once, at the end.
    cfg.train_cfg.update(max_epochs=epochs, val_interval=epochs)
    for scheduler in cfg.get('param_scheduler') or []:
        for key in ('T_max', 'end'):
            if scheduler.get(key) == before:
                scheduler[key] = epochs


def length(cfg: Config) -> tuple[int, str]:
    """How long a config trains, and in which unit: epochs or iters."""
    unit = 'epochs' if cfg.train_cfg.get('max_epochs') else 'iters'
    return cfg.train_cfg[f'max_{unit}'], unit


def train_types(
    cfg: Config,
    types: Sequence[str],
    seeds: Sequence[int],
    root: Path,
    anneal: float,
    train: Callable[[Config], object],
) -> dict[str, dict[str, list[float]]]:
    """Train a config with each conv type and seed; skip finished runs.

    Args:
        cfg: A KernelDNA config; the other types replace KernelDNA.
        types: Texts for :func:`~mmkdna.measure.configs.parse_conv_type`.
        seeds: Seeds for each type; the runs are in ``root/TYPE/seed_N``.
        root: Folder of the runs.
        anneal: The fraction of a run in which temperatures fall.
        train: Trains a config, and resumes an interrupted run.

    Returns:
        For each type its scores by their titles, one for each seed.

    Raises:
        BadInput: If a folder holds a run of another config.
    """
    found: dict[str, dict[str, list[float]]] = {}
    # Seeds in the outer loop: an interrupted comparison has all types.
    for seed in seeds:
        for name, conv_cfg in conv_cfgs(types).items():
            one = twin_of(cfg, conv_cfg)
            layer = TYPES.get(conv_cfg['type']) if conv_cfg else None
            if layer is not None and layer.temperatures:
                hooks = one.get('custom_hooks') or []
                one.custom_hooks = [*hooks, annealing(one, anneal)]
            run = root / name.replace(',', '_').replace('=', '')
            one.work_dir = str(run / f'seed_{seed}')
            one.randomness = dict(seed=seed)
            one.resume = True
            # Runs of one name would share logger and visualizer, and write to
            # the first.
            one.experiment_name = f'{run.name}_{seed}'
            one.get('visualizer', {}).pop('name', None)
            for title, value in _trained(one, train).items():
                found.setdefault(name, {}).setdefault(title, []).append(value)
    return found


def annealing(cfg: Config, fraction: float) -> dict:
    """The hook that anneals temperatures in the first part of a run."""
    number, unit = length(cfg)
    steps = max(int(fraction * number), 1)
    return {'type': 'TemperatureHook', unit: steps}


def _trained(
    cfg: Config, train: Callable[[Config], object]
) -> dict[str, float]:
    """The scores of a run; train it first if it is not finished."""
    work_dir = Path(cfg.work_dir)
    begun, finished = work_dir / 'begun.json', work_dir / 'finished.json'
    if not begun.exists():
        write_json(cfg.pretty_text, begun)
    elif json.loads(begun.read_text()) != cfg.pretty_text:
        raise BadInput(
            f'{work_dir} holds a run of another config, such as of other '
            '--epochs; expected another --work-dir, or that folder removed'
        )
    if not finished.exists():
        train(cfg)
    if not (scores := last_scores(work_dir)):
        raise BadInput(
            f'{work_dir}: the run logged no score, expected one of '
            f'{", ".join(SCORES)}; --epochs must reach a validation'
        )
    write_json(scores, finished)
    return scores


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
    types = args.types or CONV_TYPES
    conv_cfgs(types)
    cfg = cli.load_config(args.config, args.cfg_options)
    name = Path(args.config).stem
    root = args.work_dir or Path('work_dirs/compare', name)
    if args.epochs is not None:
        shorten(cfg, args.epochs)
    prepare_data(cfg, ['train_dataloader', 'val_dataloader'])
    scores = train_types(
        cfg,
        types,
        args.seeds,
        root,
        args.anneal,
        lambda one: cli.build_runner(one).train(),
    )
    cli.quiet()
    size, device = args.size or input_size(cfg), get_device()
    how = subjects.Conditions(args.batch, size, device)
    build = partial(subjects.config_subject, cfg, how=how)
    built = rows.build_subjects(types, build)
    found = rows.measured(built, 'step', args.rounds, device)
    for kind, row in found.items():
        row['scores'] = scores[kind]
    number, unit = length(cfg)
    seeds = ' '.join(map(str, args.seeds))
    title = f'{name}, seeds {seeds}, {unit} {number}, {device}'
    write_json(dict(title=title, rows=found), root / 'results.json')
    draw_scores(found, title, root / 'comparison.png')
    table = write_table(scores_table(found), root / 'table.md')
    print(f'\n{title}\n\n{table}\nAll of it is in {root}.')


if __name__ == '__main__':
    cli.exit_on_bad_input(main)
