"""Two real processes against one."""

import pytest
from helpers import processes


def test_two_processes_give_the_gradients_of_one():
    out = processes(2, 'ddp_step.py')
    for rank in range(2):
        assert out.count(f'rank {rank}: ') == 7


@pytest.mark.slow
def test_runners_of_a_detector_agree_however_they_run(tmp_path):
    out = processes(2, 'runner_steps.py', tmp_path)
    for rank in range(2):
        assert f'rank {rank}: with_cp and a static graph' in out
        assert f'rank {rank}: find_unused_parameters' in out
        assert f'rank {rank}: the health hook' in out
        assert f'rank {rank}: a NaN' in out
    assert 'rank 0: FSDPStrategy' in out
