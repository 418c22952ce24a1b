"""What a training run left behind: its scores, its config."""

import json
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import find_latest_checkpoint

# Title and factor to percent.
SCORES = {
    'coco/bbox_mAP_50': ('box AP50', 100),
    'coco/bbox_mAP': ('box AP', 100),
    'coco/segm_mAP_50': ('mask AP50', 100),
    'coco/segm_mAP': ('mask AP', 100),
    'mIoU': ('mIoU', 1),
    'accuracy/top1': ('accuracy', 1),
}


def read_log(work_dir: Path) -> list[str]:
    """What a run logged, resumed ones included: a JSON object a line."""
    return [
        line
        for log in sorted(work_dir.glob('*/vis_data/scalars.json'))
        for line in log.read_text().splitlines()
    ]


def last_scores(work_dir: Path) -> dict[str, float]:
    """The last value of each of SCORES that a run logged."""
    scores: dict[str, float] = {}
    for line in map(json.loads, read_log(work_dir)):
        scores.update({k: v for k, v in line.items() if k in SCORES})
    return scores


def read_run(work_dir: Path) -> tuple[Config, str, dict[str, float]]:
    """Config, latest checkpoint and last scores of a run.

    Raises:
        FileNotFoundError: If the run is not there or has no score yet.
    """
    configs = sorted(work_dir.glob('*.py'))
    checkpoint = find_latest_checkpoint(str(work_dir)) if configs else None
    scores = last_scores(work_dir)
    if checkpoint is None or not scores:
        raise FileNotFoundError(
            f'{work_dir} holds no finished run; train it first: make digits'
        )
    return Config.fromfile(configs[-1]), checkpoint, scores
