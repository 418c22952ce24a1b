"""Train a config with several conv types and seeds, and compare them.

Each conv type takes the place of the config's KernelDNA, everything else
stays. A run that is finished is not repeated, one that was interrupted goes
on: give the same --work-dir. It writes table.md, results.json and
comparison.png there.

Example: python tools/compare.py configs/digits/kdna_r18.py --epochs 6
"""

import argparse
import copy
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import MMLogger
from rich import box
from rich.table import Table

from mmkdna.cli import (
    add_size_argument,
    build_runner,
    config_parser,
    exit_on_bad_input,
    image_size,
    load_config,
    write_table,
)
from mmkdna.datasets import prepare_data
from mmkdna.errors import BadInput
from mmkdna.files import write_json
from mmkdna.measure import (
    CONV_TYPES,
    PLAIN,
    Conditions,
    Ratio,
    config_subject,
    interleave,
    parse_conv_type,
    switched,
)
from mmkdna.measure.runs import SCORES, last_scores
from mmkdna.peers import DyConv2d, KernelWarehouseConv2d, ODConv2d

BEGUN, FINISHED = 'begun.json', 'finished.json'
ANNEALED = {
    layer.kind for layer in (DyConv2d, KernelWarehouseConv2d, ODConv2d)
}


def with_epochs(cfg: Config, epochs: int) -> None:
    """Shorten a run, and what its schedule does until the end."""
    before = cfg.train_cfg.get('max_epochs')
    if before is None:
        raise BadInput(
            f'--epochs {epochs}: {cfg.filename} trains by iterations; '
            'expected --cfg-options train_cfg.max_iters=N instead'
        )
    cfg.train_cfg.max_epochs = epochs
    # Tested once, at the end.
    cfg.train_cfg.val_interval = epochs
    for scheduler in cfg.get('param_scheduler') or []:
        for key in ('T_max', 'end'):
            if scheduler.get(key) == before:
                scheduler[key] = epochs


def annealing(cfg: Config, fraction: float) -> dict[str, Any]:
    """The hook that moves temperatures in the first part of the run."""
    for unit in ('epochs', 'iters'):
        length = cfg.train_cfg.get(f'max_{unit}')
        if length is not None:
            return {
                'type': 'TemperatureHook',
                unit: max(int(fraction * length), 1),
            }
    raise BadInput(
        f'{cfg.filename}: train_cfg has neither max_epochs nor max_iters'
    )


def train(
    cfg: Config,
    conv_cfg: dict | None,
    work_dir: Path,
    seed: int,
    anneal: float,
) -> dict[str, float]:
    """The scores of a run, trained unless it is finished.

    Raises:
        BadInput: If its folder holds a run of another config.
    """
    cfg = copy.deepcopy(cfg)
    if conv_cfg != dict(type='KernelDNA'):
        cfg = switched(cfg, conv_cfg)
    if conv_cfg and conv_cfg['type'] in ANNEALED:
        hook = annealing(cfg, anneal)
        cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), hook]
    cfg.work_dir = str(work_dir)
    cfg.randomness = dict(seed=seed)
    cfg.resume = True
    # One of that name would write to the run that was first to make it.
    cfg.get('visualizer', {}).pop('name', None)
    begun, finished = work_dir / BEGUN, work_dir / FINISHED
    if not begun.exists():
        write_json(cfg.pretty_text, begun)
    elif json.loads(begun.read_text()) != cfg.pretty_text:
        raise BadInput(
            f'{work_dir} holds a run of another config, such as of other '
            '--epochs; expected another --work-dir, or that folder removed'
        )
    if finished.exists():
        done: dict[str, float] = json.loads(finished.read_text())
        return done
    build_runner(cfg).train()
    scores = last_scores(work_dir)
    if not scores:
        raise BadInput(
            f'{work_dir}: the run logged no score, expected one of '
            f'{", ".join(SCORES)}; --epochs must reach a validation'
        )
    write_json(scores, finished)
    return scores


def timed(
    cfg: Config,
    types: Sequence[str],
    how: Conditions,
    rounds: int,
) -> dict[str, dict[str, Any]]:
    """Parameters, multiply-adds and the ratio of a training step's time."""
    subjects = {
        name: config_subject(parse_conv_type(name), cfg, how) for name in types
    }
    for subject in subjects.values():
        subject.prepare('step')
    times = interleave(
        {
            name: lambda number, subject=subject: subject.run('step')
            for name, subject in subjects.items()
        },
        rounds,
        how.device,
    )
    base = times[PLAIN]
    rows = {}
    for name, subject in subjects.items():
        taken = times[name]
        ratio = Ratio.between(taken, base) if taken and base else None
        rows[name] = dict(
            parameters=subject.parameters,
            multiply_adds=subject.multiply_adds,
            ratio=ratio and ratio.median,
            quartiles=ratio and (ratio.low, ratio.high),
        )
    return rows


def counted(number: int, what: str) -> str:
    return f'{number} {what}{"" if number == 1 else "s"}'


def mean_and_spread(values: Sequence[float]) -> str:
    if len(values) < 2:
        return f'{values[0]:.2f}'
    return f'{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}'


def as_table(rows: dict[str, dict[str, Any]]) -> Table:
    table = Table(box=box.MARKDOWN)
    table.add_column('conv type')
    scores = next(iter(rows.values()))['scores']
    for title in (
        'parameters, M',
        'multiply-adds, M',
        'step, ratio (quartiles)',
        *(SCORES[key][0] for key in scores),
    ):
        table.add_column(title, justify='right')
    for name, row in rows.items():
        table.add_row(
            name,
            f'{row["parameters"] / 1e6:.2f}',
            f'{row["multiply_adds"] / 1e6:.1f}',
            '{:.2f} ({:.2f} to {:.2f})'.format(row['ratio'], *row['quartiles'])
            if row['ratio']
            else 'out of memory: try a smaller --batch',
            *map(mean_and_spread, row['scores'].values()),
        )
    return table


def draw(rows: dict[str, dict[str, Any]], title: str, path: Path) -> None:
    """The first score against parameters; the area is the step's time."""
    from matplotlib.figure import Figure

    from mmkdna.measure.picture import annotate, plain_numbers, save

    figure = Figure(figsize=(7, 4.5), layout='constrained')
    axis = figure.subplots()
    for name, row in rows.items():
        key, values = next(iter(row['scores'].items()))
        x, y = row['parameters'] / 1e6, statistics.mean(values)
        spread = statistics.stdev(values) if len(values) > 1 else 0
        (_, _, (bar,)) = axis.errorbar(x, y, spread, capsize=3, zorder=1)
        axis.scatter(
            x,
            y,
            s=120 * (row['ratio'] or 1),
            color=bar.get_color()[0],
            alpha=0.6,
            zorder=2,
        )
        # Smaller than plain is left of it, and so is its name.
        smaller = row['parameters'] < rows[PLAIN]['parameters']
        text = f'{name} ({row["ratio"]:.2f}x)' if row['ratio'] else name
        annotate(axis, text, x, y, left=smaller)
    axis.margins(x=0.3, y=0.15)
    axis.set(
        xscale='log',
        title=title,
        xlabel='parameters, millions',
        ylabel=f'{SCORES[key][0]}, percent (mean, standard deviation)',
    )
    axis.text(
        0.99,
        0.02,
        "area: a training step's time over the plain one's",
        transform=axis.transAxes,
        ha='right',
        fontsize=8,
        color='grey',
    )
    plain_numbers(axis.xaxis)
    save(figure, path)


def arguments() -> argparse.ArgumentParser:
    parser = config_parser(__doc__)
    parser.add_argument(
        '--types',
        nargs='+',
        default=list(CONV_TYPES),
        metavar='TYPE',
        help='conv types, with arguments as in ODConv,experts=4; KernelDNA '
        'alone is the config as it is; plain is always there (default: '
        f'{" ".join(CONV_TYPES)})',
    )
    parser.add_argument(
        '--seeds',
        type=int,
        nargs='+',
        default=[0, 1, 2],
        metavar='SEED',
        help='of the runs of each type (default: 0 1 2)',
    )
    parser.add_argument(
        '--epochs', type=int, help='of a run (default: as the config trains)'
    )
    parser.add_argument(
        '--anneal',
        type=float,
        default=0.1,
        metavar='FRACTION',
        help='of the run, in which the temperature of DyConv, ODConv and '
        'KernelWarehouse falls (default: 0.1, as published)',
    )
    parser.add_argument(
        '--rounds',
        type=int,
        default=10,
        help='training steps timed of each type (default: 10)',
    )
    parser.add_argument(
        '--batch',
        type=int,
        default=8,
        help='images of a step that is timed (default: 8)',
    )
    add_size_argument(parser)
    parser.add_argument(
        '--work-dir',
        type=Path,
        help='default: work_dirs/compare/NAME_OF_THE_CONFIG',
    )
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = arguments().parse_args(argv)
    for name, value, least in (
        ('--epochs', args.epochs, 1),
        ('--rounds', args.rounds, 2),
        ('--batch', args.batch, 1),
    ):
        if value is not None and value < least:
            raise BadInput(f'{name} {value}: expected at least {least}')
    if not 0 < args.anneal <= 1:
        raise BadInput(f'--anneal {args.anneal}: expected above 0, at most 1')
    types = [PLAIN, *(name for name in args.types if name != PLAIN)]
    conv_cfgs = {name: parse_conv_type(name) for name in types}
    cfg = load_config(args.config, args.cfg_options)
    root = args.work_dir or Path('work_dirs/compare', Path(args.config).stem)
    if args.epochs is not None:
        with_epochs(cfg, args.epochs)
    prepare_data(cfg, ['train_dataloader', 'val_dataloader'])
    found: dict[str, list[dict[str, float]]] = {name: [] for name in types}
    # All types with a seed before the next: cut short, it still compares.
    for seed in args.seeds:
        for name, conv_cfg in conv_cfgs.items():
            run = root / name.replace(',', '_').replace('=', '')
            scores = train(
                cfg, conv_cfg, run / f'seed_{seed}', seed, args.anneal
            )
            found[name].append(scores)
    # From here on the table alone, not what is logged about each model.
    MMLogger.get_current_instance().setLevel('ERROR')
    how = Conditions(args.batch, image_size(args, cfg), get_device())
    rows = timed(cfg, types, how, args.rounds)
    for name, row in rows.items():
        row['scores'] = {
            key: [factor * scores[key] for scores in found[name]]
            for key, (_, factor) in SCORES.items()
            if key in found[name][0]
        }
    epochs = cfg.train_cfg.get('max_epochs')
    length = (
        f'{cfg.train_cfg.max_iters} iterations'
        if epochs is None
        else counted(epochs, 'epoch')
    )
    title = (
        f'{Path(args.config).stem}, {counted(len(args.seeds), "seed")}, '
        f'{length}, {how.device}'
    )
    write_json(dict(title=title, rows=rows), root / 'results.json')
    draw(rows, title, root / 'comparison.png')
    table = write_table(as_table(rows), root / 'table.md')
    print(f'\n{title}\n\n{table}')
    print(f'Table, figures and picture are in {root}.')


if __name__ == '__main__':
    exit_on_bad_input(main)
