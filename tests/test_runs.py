"""Whether a run is finished."""

import pytest

from mmkdna.measure.runs import find_run


def test_a_run_without_a_score_is_not_finished(logged):
    work_dir = logged('1', dict(loss=1.0, step=1))
    (work_dir / 'config.py').touch()
    (work_dir / 'last_checkpoint').write_text('epoch_1.pth')
    with pytest.raises(FileNotFoundError, match='holds no finished run'):
        find_run(work_dir)
