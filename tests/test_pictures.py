"""Pictures of what a run learned."""

import json

import pytest
from matplotlib.image import imread

from mmkdna.measure.pictures import draw_curves
from mmkdna.measure.runs import find_run


@pytest.fixture
def logged(tmp_path):
    """Write what a run logs, in a folder of its time."""

    def logged(time, *lines):
        log = tmp_path / time / 'vis_data/scalars.json'
        log.parent.mkdir(parents=True)
        log.write_text('\n'.join(map(json.dumps, lines)))
        return tmp_path

    return logged


def test_a_resumed_run_is_one_curve_and_a_repeated_one_the_last(logged):
    first = [
        dict(loss=9.0, step=10),
        {'coco/bbox_mAP': 0.25, 'step': 1},
        dict(loss=5.0, step=20),
    ]
    logged('1', *first)
    later = [dict(loss=4.0, step=20), {'coco/bbox_mAP': 0.5, 'step': 2}]
    work_dir = logged('2', *later)
    scores = draw_curves(work_dir, work_dir / 'curves.png')
    assert scores == {1: {'box AP': 25}, 2: {'box AP': 50}}
    assert imread(work_dir / 'curves.png').std() > 0.01


def test_a_run_without_a_score_is_not_finished(logged):
    work_dir = logged('1', dict(loss=1.0, step=1))
    (work_dir / 'config.py').touch()
    (work_dir / 'last_checkpoint').write_text('epoch_1.pth')
    with pytest.raises(FileNotFoundError, match='holds no finished run'):
        find_run(work_dir)
