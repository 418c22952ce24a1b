"""Training runs: read their logs, and train one for each conv type."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import find_latest_checkpoint

from ..errors import BadInput
from ..files import write_json
from ..peers import TYPES
from .configs import conv_cfgs, twin_of

# The title of a metric, and its factor to percent.
SCORES = {
    'coco/bbox_mAP_50': ('box AP50', 100),
    'coco/bbox_mAP': ('box AP', 100),
    'coco/segm_mAP_50': ('mask AP50', 100),
    'coco/segm_mAP': ('mask AP', 100),
    'mIoU': ('mIoU', 1),
    'accuracy/top1': ('accuracy', 1),
}


def in_percent(metrics: Mapping[str, float]) -> dict[str, float]:
    """The scores among metrics in percent, by their titles."""
    return {
        title: factor * float(metrics[key])
        for key, (title, factor) in SCORES.items()
        if key in metrics
    }


def read_log(work_dir: Path) -> list[str]:
    """The lines of a run's logs, one JSON object each."""
    logs = sorted(work_dir.glob('*/vis_data/scalars.json'))
    return [line for log in logs for line in log.read_text().splitlines()]


def last_scores(work_dir: Path) -> dict[str, float]:
    """The last scores that a run logged, in percent, by their titles."""
    logged: dict[str, float] = {}
    for line in read_log(work_dir):
        logged.update(json.loads(line))
    return in_percent(logged)


def find_run(work_dir: Path) -> tuple[Config, str]:
    """Config and latest checkpoint of a run.

    Raises:
        FileNotFoundError: If the run is not there or has no score yet.
    """
    configs = sorted(work_dir.glob('*.py'), key=lambda p: p.stat().st_mtime)
    checkpoint = find_latest_checkpoint(str(work_dir)) if configs else None
    if checkpoint is None or not last_scores(work_dir):
        raise FileNotFoundError(
            f'{work_dir} holds no finished run, expected a config, a '
            'checkpoint and scores in */vis_data/scalars.json; train first: '
            f'python tools/train.py CONFIG --work-dir {work_dir}'
        )
    return Config.fromfile(configs[-1]), checkpoint


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
            # A visualizer with this name would write to the first run.
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
