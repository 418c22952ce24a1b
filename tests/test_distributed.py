"""Two real processes against one."""

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def processes(script, *args):
    """The output of two processes."""
    done = subprocess.run(
        [
            *(sys.executable, '-m', 'torch.distributed.run'),
            *('--standalone', '--nproc-per-node', '2', HERE / script, *args),
        ],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_two_processes_give_the_gradients_of_one():
    out = processes('ddp_step.py')
    for rank in range(2):
        assert out.count(f'rank {rank}: ') == 7


@pytest.mark.slow
def test_runners_of_a_detector_agree_however_they_run(tmp_path):
    out = processes('runner_steps.py', tmp_path)
    for rank in range(2):
        assert f'rank {rank}: with_cp and a static graph' in out
        assert f'rank {rank}: find_unused_parameters' in out
    assert 'rank 0: FSDPStrategy' in out
