"""Runs that are compared: their length, and whether they are finished."""

import pytest
from mmengine.config import Config

from mmkdna.measure.runs import annealing, find_run


def test_annealing_takes_its_part_in_the_unit_of_the_run():
    for train_cfg, fraction, expected in (
        (dict(max_epochs=30), 0.1, dict(epochs=3)),
        (dict(max_epochs=8), 0.5, dict(epochs=4)),
        (dict(max_epochs=2), 0.1, dict(epochs=1)),
        (dict(max_iters=500), 0.1, dict(iters=50)),
    ):
        cfg = Config(dict(train_cfg=train_cfg))
        assert annealing(cfg, fraction) == dict(
            type='TemperatureHook', **expected
        )


def test_a_run_without_a_score_is_not_finished(logged):
    work_dir = logged('1', dict(loss=1.0, step=1))
    (work_dir / 'config.py').touch()
    (work_dir / 'last_checkpoint').write_text('epoch_1.pth')
    with pytest.raises(FileNotFoundError, match='holds no finished run'):
        find_run(work_dir)
