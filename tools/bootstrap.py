"""Make `.venv` with a tested stack; `make demo` and `make test` call this.

It needs Python and a C++ compiler. A complete `.venv` stays as it is. The ops
of mmcv are compiled once and kept in `~/.cache/mmkdna` (MMKDNA_HOME).
MMKDNA_STACK=original makes `.venv-original` of `requirements-original.txt`.
With MMKDNA_PYTHON=/path/to/python it only checks that environment.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
STACKS = {'maintained': '', 'original': '-original'}
STACK = os.environ.get('MMKDNA_STACK') or 'maintained'
SUFFIX = STACKS.get(STACK, '-unknown')
VENV = ROOT / f'.venv{SUFFIX}'
PYTHON = VENV / 'bin' / 'python'
READY = VENV / 'mmkdna-ready'
REQUIREMENTS = ROOT / f'requirements{SUFFIX}.txt'
HOME = Path(os.environ.get('MMKDNA_HOME') or Path.home() / '.cache' / 'mmkdna')
LOG = HOME / f'setup{SUFFIX}.log'
NEEDED_GIB = 8
FIRST = 'torch torchvision numpy setuptools wheel ninja pip'
# The modules of a user's own environment; after a colon, what to install.
MODULES = (
    'torch torchvision mmengine mmcv.ops:mmcv mmdet mmseg:mmsegmentation '
    'mmpretrain sklearn:scikit-learn rich matplotlib pycocotools onnx '
    'onnxruntime pytest xdist:pytest-xdist hypothesis'
)
# For a test; alone, since its opendatalab pins a rich of years ago.
MIM = 'onedl-mim==0.5.1'
WHEEL = '-v --no-deps --no-build-isolation --no-binary :all: -w'
COMPILER_FLAGS = '-O2 -g0 -w'
NVCC = 'nvidia-cuda-nvcc nvidia-cuda-crt nvidia-nvvm nvidia-cuda-cccl'
CUDA_MINUTES = 50  # of one core, a guess
AGAIN = 'then run the same command'
CAUSES = {  # why a command failed, by what it printed
    'No space left|Disk quota exceeded': 'the disk is full; it needs about '
    f'{NEEDED_GIB} GiB in {ROOT} and 1 GiB in {HOME}; free some',
    'dns error|resolve host|[Cc]onnection (refused|reset|error)|'
    'Failed to fetch|error sending request|NewConnectionError|'
    'Network is unreachable|Temporary failure|No matching distribution': 'the '
    'package index cannot be reached; check the network (and a proxy)',
    'matching Python (version|ABI) tag': 'a package has no wheel for this '
    'Python; put python3 of 3.10 to 3.12 first on the PATH',
    'Python.h: No such file': 'the headers of Python are missing; install '
    'them (Debian and Ubuntu: apt-get install python3-dev)',
    'CUDA_HOME environment variable is not set|detected CUDA version|'
    '[Uu]nsupported gpu architecture': 'there is a GPU, but no nvcc that '
    'compiles mmcv for it; install the CUDA toolkit of the version that '
    'PyTorch has, set MMKDNA_PYTHON to a Python with mmcv, or use the CPU '
    '(CUDA_VISIBLE_DEVICES= make demo)',
}


def fail(sentence: str) -> NoReturn:
    sys.exit(f'mmkdna set-up: {sentence}')


def say(sentence: str) -> None:
    print(f'[set-up] {sentence}', flush=True)


def explain(output: str) -> str:
    """One sentence for why a command failed."""
    for pattern, sentence in CAUSES.items():
        if re.search(pattern, output):
            return f'{sentence}, {AGAIN}. Details: {LOG}'
    last = output.strip().splitlines()[-1:]
    return f'a step failed ({" ".join(last)}). Details: {LOG}'


def show_compiled(line: str) -> None:
    """Show every twentieth of ninja's lines, such as `[20/78]`."""
    if match := re.match(r'\s*\[(\d+)/(\d+)\]', line):
        done, total = map(int, match.groups())
        if done % 20 == 0 or done == total:
            say(f'{done} of {total} files')


def run(command: list, **env: str) -> None:
    """Run a command with its output in the log; explain it if it fails."""
    output = ''
    with LOG.open('a') as log:
        print('$', *command, file=log)
        process = subprocess.Popen(
            list(map(str, command)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **env},
            text=True,
            errors='replace',
        )
        for line in process.stdout or ():
            log.write(line)
            output = output[-40000:] + line
            show_compiled(line)
    if process.wait():
        fail(explain(output))


def output_of(code: str, **more: str) -> str:
    """What a line of Python prints in the new environment."""
    line, env = [str(PYTHON), '-c', code], {**os.environ, **more}
    done = subprocess.run(line, capture_output=True, text=True, env=env)
    if done.returncode:
        fail(explain(done.stderr))
    return done.stdout.strip()


def check_own(python: str) -> None:
    """Check a user's environment; change nothing in it."""
    code = (
        'import importlib, sys\n'
        'for name in sys.argv[1:]:\n'
        '    try: importlib.import_module(name.split(":")[0])\n'
        '    except Exception as e: print(name, e, sep="\\t")\n'
    )
    command = [python, '-c', code, *MODULES.split()]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
        done.check_returncode()
    except (OSError, subprocess.CalledProcessError) as error:
        fail(
            f'MMKDNA_PYTHON={python} does not run ({error}); give the path '
            'of a Python of 3.10 or later.'
        )
    lines = re.findall(r'^(\S+)\t(.*)$', done.stdout, re.MULTILINE)
    if lines:
        names = ' '.join(name.split(':')[-1] for name, _ in lines)
        why = '; '.join(f'{name.split(":")[0]}: {why}' for name, why in lines)
        fail(
            f'MMKDNA_PYTHON={python} lacks {names} ({why}); install them '
            'there, or unset MMKDNA_PYTHON to let mmkdna make its own .venv.'
        )


def check_machine() -> None:
    if sys.version_info < (3, 10):  # noqa: UP036
        fail(
            f'python3 is {sys.version.split()[0]}, expected 3.10 or later; '
            'put a newer one first on the PATH.'
        )
    for folder, needed in ((ROOT, NEEDED_GIB), (HOME, 1)):
        free = shutil.disk_usage(folder).free / 2**30
        if free < needed:
            fail(
                f'the disk of {folder} has {free:.1f} GiB free, expected '
                f'{needed}; free some, {AGAIN}.'
            )


def find_uv() -> str:
    """The path of uv; it is installed into the cache if it is absent."""
    own = HOME / 'uv'
    if found := shutil.which('uv') or shutil.which(own / 'bin' / 'uv'):
        return found
    say('installing uv (some seconds)')
    run([sys.executable, '-m', 'pip', 'install', '--target', own, 'uv'])
    return str(own / 'bin' / 'uv')


def pins(*names: str) -> list[str]:
    """The requirements of these packages; mmcv may be onedl-mmcv."""
    lines = REQUIREMENTS.read_text().splitlines()
    wanted = re.compile(rf'(onedl-)?({"|".join(names)})(?![\w-])')
    found = [line for line in lines if wanted.match(line)]
    if len(found) != len(names):
        fail(f'{REQUIREMENTS} should pin each of {", ".join(names)} once')
    return found


def mmcv_wheel() -> Path:
    """The wheel of mmcv; it is compiled once for each torch and Python."""
    key, _, version = output_of(
        'import sys, sysconfig, torch;'
        'gpu = torch.cuda.is_available(); kind = "cuda" if gpu else "cpu";'
        'print(f"torch{torch.__version__}-{sys.implementation.cache_tag}-'
        '{sysconfig.get_platform()}-{kind}", gpu and torch.version.cuda or "")'
    ).partition(' ')
    folder = HOME / 'wheels' / key
    (pin,) = pins('mmcv')
    pattern = f'{pin.replace("-", "_").replace("==", "-")}-*.whl'
    if not list(folder.glob(pattern)):
        compile_mmcv(pin, folder, version)
    return next(folder.glob(pattern))


def compile_mmcv(pin: str, folder: Path, version: str) -> None:
    """Compile it into a folder; without a GPU, CUDA's version is ''."""
    which, name = shutil.which, os.environ.get('CXX', 'c++')
    if (compiler := which(name) or which('g++')) is None:
        fail(
            'no C++ compiler was found, and mmcv compiles its ops here; '
            'install one (Debian and Ubuntu: apt-get install g++), or set '
            'MMKDNA_PYTHON to a Python that has mmcv.'
        )
    if not Path(sysconfig.get_path('include'), 'Python.h').exists():
        fail(explain('Python.h: No such file'))
    cores = os.cpu_count() or 1
    kind, time = 'the CPU', '2 to 5 minutes on 2 cores'
    cuda: dict[str, str] = {}
    if version:
        kind, cuda = f'CUDA {version}', cuda_compiler(version)
        time = f'about {CUDA_MINUTES // cores + 1} minutes, a guess'
    say(f"compiling mmcv's ops for {kind} (once a machine; {time})")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='build-', dir=folder) as work:
        run(
            [PYTHON, '-m', 'pip', 'wheel', *WHEEL.split(), work, pin],
            CFLAGS=COMPILER_FLAGS + precompiled_header(compiler, Path(work)),
            MMCV_WITH_OPS='1',
            PIP_NO_CACHE_DIR='1',  # a wheel there may be of another torch
            MAX_JOBS=os.environ.get('MAX_JOBS', str(cores)),
            PATH=f'{PYTHON.parent}{os.pathsep}{os.environ["PATH"]}',
            **cuda,
        )
        for wheel in Path(work).glob('*.whl'):
            os.replace(wheel, folder / wheel.name)


def cuda_compiler(version: str) -> dict[str, str]:
    """Install nvcc beside torch's own headers; what the build needs to know.

    Before CUDA 13 the package index has no nvcc. Then mmcv's build looks for
    a toolkit on the machine.
    """
    major, minor = version.split('.')[:2]
    if int(major) < 13:
        return {}
    say(f'installing the compiler of CUDA {version} (100 MB)')
    packages = [f'{name}=={major}.{minor}.*' for name in NVCC.split()]
    run([find_uv(), 'pip', 'install', '--python', PYTHON, *packages])
    site = output_of('import sysconfig; print(sysconfig.get_path("purelib"))')
    home = Path(site, f'nvidia/cu{major}')
    # The linker asks for a name without a version.
    link = home / 'lib' / 'libcudart.so'
    if not link.exists():
        link.symlink_to(next(link.parent.glob('libcudart.so.*')).name)
    return {'CUDA_HOME': str(home)}


def precompiled_header(compiler: str, work: Path) -> str:
    """Precompile torch's headers; return the flag that makes gcc use them.

    gcc ignores the result if the build has other flags. The build's are those
    that setuptools has for C, and torch's own, which may name the C++ ABI.
    """
    version = subprocess.run([compiler, '--version'], capture_output=True)
    if b'Free Software Foundation' not in version.stdout:
        return ''
    flags = output_of(
        'import sysconfig, torch; from torch.utils.cpp_extension import *;'
        'from setuptools._distutils.ccompiler import new_compiler;'
        'from setuptools._distutils.sysconfig import customize_compiler;'
        'c = new_compiler(); customize_compiler(c);'
        'paths = [*include_paths(), sysconfig.get_path("include")];'
        'named = hasattr(BuildExtension, "_add_gnu_cpp_abi_flag");'
        'abi = int(torch._C._GLIBCXX_USE_CXX11_ABI);'
        'abi = [f"-D_GLIBCXX_USE_CXX11_ABI={abi}"] * named;'
        'flags = [*c.compiler_so[1:], *(f"-I{p}" for p in paths)];'
        'print(*flags, *abi, sep="\\n")',
        CFLAGS=COMPILER_FLAGS,
    ).splitlines()
    header = work / 'torch_types.h'
    header.write_text('#include <torch/types.h>\n')
    flags += ['-std=c++17', '-DTORCH_API_INCLUDE_EXTENSION_H']
    run([compiler, *flags, '-x', 'c++-header', header, '-o', f'{header}.gch'])
    return f' -include {header}'


def fingerprint() -> str:
    """A hash of all that `.venv` is made from."""
    made_from = REQUIREMENTS.read_bytes() + Path(__file__).read_bytes()
    return hashlib.sha256(made_from).hexdigest()


def set_up() -> None:
    uv = find_uv()
    if not PYTHON.exists():
        run([uv, 'venv', '--python', sys.executable, VENV])
    install = [uv, 'pip', 'install', '--python', PYTHON]
    say('installing PyTorch (about 3 GB; 20 seconds to some minutes)')
    run([*install, *pins(*FIRST.split())])
    wheel = mmcv_wheel()
    say('installing OpenMMLab and tools (some seconds)')
    run([*install, wheel])
    run([*install, '-r', REQUIREMENTS])
    run([*install, '--no-deps', MIM, '-e', ROOT])
    # Compiles all of it; later processes start in a third of the time.
    models = 'mmdet.models, mmseg.models, mmpretrain.models'
    code = f'import mmkdna, mmcv.ops, {models}'
    run([PYTHON, '-c', code], PYTHONDONTWRITEBYTECODE='')


def main() -> None:
    if STACK not in STACKS:
        fail(f'STACK={STACK} is unknown, expected {" or ".join(STACKS)}.')
    if own := os.environ.get('MMKDNA_PYTHON'):
        check_own(own)
        return
    if READY.exists() and READY.read_text() == fingerprint():
        return
    try:
        HOME.mkdir(parents=True, exist_ok=True)
        check_machine()
        LOG.unlink(missing_ok=True)
        set_up()
        READY.write_text(fingerprint())
    except OSError as error:
        fail(explain(str(error)))
    except KeyboardInterrupt:
        fail('stopped; the same command goes on from here.')
    say('done')


if __name__ == '__main__':
    main()
