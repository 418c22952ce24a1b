"""Training runs: their logs, scores and checkpoints."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import find_latest_checkpoint

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


def read_log(work_dir: Path) -> list[dict[str, Any]]:
    """The lines of a run's logs, a JSON object each.

    Half a line, which a full disk leaves, is left out.
    """
    found = []
    for log in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in log.read_text().splitlines():
            with suppress(ValueError):
                found.append(json.loads(line))
    return [line for line in found if isinstance(line, dict)]


def last_scores(work_dir: Path) -> dict[str, float]:
    """The last scores that a run logged, in percent, by their titles."""
    logged: dict[str, float] = {}
    for line in read_log(work_dir):
        logged.update(line)
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
