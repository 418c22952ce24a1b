"""Whether a run is finished."""

import pytest

from mmkdna.measure.runs import find_run, last_scores


def test_a_run_without_a_score_is_not_finished(logged):
    work_dir = logged('1', dict(loss=1.0, step=1))
    (work_dir / 'config.py').touch()
    (work_dir / 'last_checkpoint').write_text('epoch_1.pth')
    with pytest.raises(FileNotFoundError, match='holds no finished run'):
        find_run(work_dir)


def test_half_a_line_of_a_log_is_left_out(logged):
    work_dir = logged('1', dict(loss=1.0), {'coco/bbox_mAP': 0.5})
    with (work_dir / '1/vis_data/scalars.json').open('a') as log:
        log.write('\n{"coco/bbox_mAP": 0.')
    assert last_scores(work_dir) == {'box AP': 50}


def test_a_line_of_a_log_that_is_no_object_is_left_out(logged):
    work_dir = logged('1', {'coco/bbox_mAP': 0.5})
    with (work_dir / '1/vis_data/scalars.json').open('a') as log:
        log.write('\n5\n')
    assert last_scores(work_dir) == {'box AP': 50}
