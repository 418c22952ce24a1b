"""Which CUDA compiler mmcv's ops are compiled with, and for which GPUs."""

import re
from collections.abc import Iterable

QUERY = 'nvidia-smi --query-gpu=compute_cap --format=csv,noheader'
NAMES = 'nvidia-cuda-nvcc nvidia-cuda-crt nvidia-nvvm nvidia-cuda-cccl'
# Guesses for one core: mmcv's 59 files for CUDA, and its others.
MINUTES = 59 * 40 / 60 + 143 * 5 / 60


def capabilities(output: str) -> list[tuple[int, int]]:
    """The kinds of GPU that QUERY printed, such as (9, 0), each once."""
    found = re.findall(r'^\s*(\d+)\.(\d+)\s*$', output, re.MULTILINE)
    return sorted({(int(major), int(minor)) for major, minor in found})


def arch_list(found: Iterable[tuple[int, int]], known: Iterable[str]) -> str:
    """TORCH_CUDA_ARCH_LIST for these GPUs.

    Args:
        found: As of :func:`capabilities`.
        known: What torch has kernels for: its ``torch.cuda.get_arch_list()``.

    Returns:
        Such as ``8.0;9.0``. A GPU newer than torch's own kernels gets the
        newest of them as PTX, which its driver compiles. '' where a GPU is
        older than all of them, or there is none: torch does not run there.
    """
    names = (re.fullmatch(r'sm_(\d+)(\d)', name) for name in known)
    kinds = sorted((int(m[1]), int(m[2])) for m in names if m)
    listed = []
    for kind in sorted(set(found)):
        if not kinds or kind < kinds[0]:
            return ''
        major, minor = min(kind, kinds[-1])
        ptx = '+PTX' if kind > kinds[-1] else ''
        listed.append(f'{major}.{minor}{ptx}')
    return ';'.join(dict.fromkeys(listed))


def packages(cuda: str) -> list[str]:
    """The compiler's packages for torch's CUDA version, such as 13.0.

    None before CUDA 13: those packages hold no ``nvcc``.
    """
    major, minor = cuda.split('.')[:2]
    if int(major) < 13:
        return []
    return [f'{name}=={major}.{minor}.*' for name in NAMES.split()]


def home(cuda: str) -> str:
    """CUDA_HOME in site-packages: the packages and torch's headers."""
    return f'nvidia/cu{cuda.split(".")[0]}'


def fits(version: str, cuda: str) -> bool:
    """Whether an nvcc, by what its ``--version`` printed, is torch's major."""
    release = re.search(r'release (\d+)\.', version)
    return release is not None and release[1] == cuda.split('.')[0]


def minutes(cores: int) -> int:
    """How long compiling the ops takes, about."""
    return round(MINUTES / max(cores, 1)) + 1
