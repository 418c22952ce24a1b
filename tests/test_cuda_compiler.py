"""Which compiler, packages and flags a machine's GPUs get."""

import pytest

KNOWN = ['sm_75', 'sm_80', 'sm_86', 'sm_90', 'sm_100', 'sm_120']


@pytest.mark.parametrize(
    ('printed', 'expected'),
    [
        ('9.0\n', '9.0'),
        ('9.0\n8.0\n9.0\n', '8.0;9.0'),
        ('10.0\r\n', '10.0'),
        # It runs what is compiled for 8.6, and torch compiles it natively.
        ('8.9\n', '8.9'),
        # Newer than this torch, older than it.
        ('12.1\n', '12.0+PTX'),
        ('6.1\n9.0\n', ''),
        ('No devices were found\n', ''),
        ('Field "compute_cap" is not a valid field to query.\n', ''),
        ("NVIDIA-SMI has failed because it couldn't communicate\n", ''),
    ],
)
def test_gpus_get_their_architectures(tool, printed, expected):
    cuda = tool('cuda_compiler')
    assert cuda.arch_list(cuda.capabilities(printed), KNOWN) == expected


def test_the_compiler_is_of_the_cuda_version_of_torch(tool):
    cuda = tool('cuda_compiler')
    assert cuda.packages('13.0')[0] == 'nvidia-cuda-nvcc==13.0.*'
    assert len(cuda.packages('13.2')) == 4
    assert cuda.packages('12.1') == []
    assert cuda.home('13.0') == 'nvidia/cu13'


@pytest.mark.parametrize(
    ('printed', 'fits'),
    [
        ('Cuda compilation tools, release 13.2, V13.2.51', True),
        ('Cuda compilation tools, release 12.1, V12.1.105', False),
        ('nvcc: command not found', False),
    ],
)
def test_an_nvcc_at_hand_is_of_the_same_major_version(tool, printed, fits):
    assert tool('cuda_compiler').fits(printed, '13.0') is fits


def test_more_cores_take_less_time(tool):
    minutes = tool('cuda_compiler').minutes
    assert minutes(64) < minutes(16) < minutes(2)
