"""The package index's CUDA compiler compiles an op of mmcv, without a GPU."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import mmcv.ops
import pytest
import torch

MAJOR = int((torch.version.cuda or '0').partition('.')[0])
# As mmcv's own setup.py compiles them, but one file of its 59.
SETUP = """
from setuptools import setup
from torch.utils.cpp_extension import BuildExtension, CUDAExtension

setup(
    name='op',
    ext_modules=[
        CUDAExtension(
            'op',
            ['three_nn_cuda.cu'],
            include_dirs=[{common!r}, {common!r} + '/cuda'],
            define_macros=[('MMCV_WITH_CUDA', None)],
            extra_compile_args=dict(cxx=[], nvcc=['-std=c++17']),
        )
    ],
    cmdclass=dict(build_ext=BuildExtension),
)
"""


@pytest.fixture
def environment(tmp_path):
    """A Python with this one's packages, and torch's CUDA beside its own."""
    home = tmp_path / 'environment'
    command = [sys.executable, '-m', 'venv', '--without-pip', home]
    subprocess.run(command, check=True)
    here = Path(sysconfig.get_path('purelib'))
    site = home / here.relative_to(sys.prefix)
    (site / 'here.pth').write_text(f'{here}\n')
    cuda = f'nvidia/cu{MAJOR}'
    shutil.copytree(here / cuda, site / cuda, copy_function=os.symlink)
    for info in here.glob('nvidia*.dist-info'):
        shutil.copytree(info, site / info.name)
    return home


@pytest.mark.slow
@pytest.mark.skipif(
    MAJOR < 13, reason='before CUDA 13 the package index has no nvcc'
)
def test_an_op_of_mmcv_compiles_for_a_gpu_that_is_not_here(
    tool, environment, tmp_path, monkeypatch
):
    bootstrap = tool('bootstrap')
    python = environment / 'bin/python'
    monkeypatch.setattr(bootstrap, 'PYTHON', python)
    monkeypatch.setattr(bootstrap, 'LOG', tmp_path / 'log')
    compiler = bootstrap.cuda_compiler(torch.version.cuda)
    assert Path(compiler['CUDA_HOME']).is_relative_to(environment)

    csrc = Path(mmcv.ops.__file__).parent / 'csrc'
    shutil.copy(csrc / 'pytorch/cuda/three_nn_cuda.cu', tmp_path)
    text = SETUP.format(common=str(csrc / 'common'))
    (tmp_path / 'setup.py').write_text(text)
    done = subprocess.run(
        [python, 'setup.py', 'build_ext', '--inplace'],
        cwd=tmp_path,
        env={**os.environ, **compiler, 'TORCH_CUDA_ARCH_LIST': '9.0'},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert 'arch=compute_90,code=sm_90' in done.stdout
    (library,) = tmp_path.glob('op*.so')
    built = library.read_bytes()
    assert b'ThreeNNForwardCUDAKernelLauncher' in built
    assert b'.nv_fatbin' in built
