"""Two real processes against one."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def test_two_processes_give_the_gradients_of_one():
    done = subprocess.run(
        [
            *(sys.executable, '-m', 'torch.distributed.run'),
            *('--standalone', '--nproc-per-node', '2'),
            HERE / 'ddp_step.py',
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for rank in range(2):
        assert done.stdout.count(f'rank {rank}: ') == 6
