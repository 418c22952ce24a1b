"""The shell scripts of tools/ that launch jobs."""

import os
import subprocess

import pytest
from helpers import ROOT


@pytest.mark.parametrize(
    'script', ['dist_train.sh', 'dist_test.sh', 'slurm_train.sh']
)
def test_scripts_explain_themselves(script):
    done = subprocess.run(
        [ROOT / 'tools' / script],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert f'Usage: tools/{script}' in done.stderr


def test_slurm_script_asks_for_the_gpus_and_passes_options_on(tmp_path):
    """With a stand-in for srun, which this machine cannot have."""
    srun = tmp_path / 'srun'
    srun.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    srun.chmod(0o755)
    done = subprocess.run(
        [
            *(ROOT / 'tools/slurm_train.sh', 'part', 'job', 'c.py', 'run'),
            *('--resume', '--cfg-options', 'a=1'),
        ],
        env={
            'PATH': f'{tmp_path}:{os.environ["PATH"]}',
            'GPUS': '4',
            'SRUN_ARGS': '--time 1:00',
        },
        capture_output=True,
        text=True,
        check=True,
    )
    asked, run = done.stdout.split('-u\n')
    for option in ('--ntasks=4', '--gres=gpu:4', '--time', '1:00', 'python'):
        assert option in asked.splitlines()
    assert run.splitlines() == [
        *(str(ROOT / 'tools/train.py'), 'c.py', '--work-dir', 'run'),
        *('--launcher', 'slurm', '--resume', '--cfg-options', 'a=1'),
    ]
