"""Make `.venv` with the tested stack; `make demo` and `make test` call this.

It needs nothing but Python and a C++ compiler, and does nothing twice: a
`.venv` that is complete is left alone, and mmcv's compiled ops are kept in
`~/.cache/mmkdna` (MMKDNA_HOME) for the next checkout. With
MMKDNA_PYTHON=/path/to/python it only checks that environment.
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

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / '.venv'
PYTHON = VENV / 'bin' / 'python'
READY = VENV / 'mmkdna-ready'
REQUIREMENTS = ROOT / 'requirements.txt'
HOME = Path(os.environ.get('MMKDNA_HOME') or Path.home() / '.cache' / 'mmkdna')
LOG = HOME / 'setup.log'
NEEDED_GIB = 8
MODULES = {  # what a user's own environment must have: module, distribution
    'torch': 'torch',
    'torchvision': 'torchvision',
    'mmengine': 'mmengine',
    'mmcv.ops': 'mmcv',
    'mmdet': 'mmdet',
    'mmseg': 'mmsegmentation',
    'mmpretrain': 'mmpretrain',
    'sklearn': 'scikit-learn',
    'rich': 'rich',
    'matplotlib': 'matplotlib',
    'pycocotools': 'pycocotools',
    'pytest': 'pytest',
}
# For a test. Alone: opendatalab, which it asks for but needs for data sets
# only, pins a rich and a setuptools of years ago.
MIM = 'onedl-mim==0.5.1'
COMPILER_FLAGS = '-O2 -g0 -w'
# What torch's build of an extension adds to the flags of Python's own.
TORCH_FLAGS = ['-std=c++17', '-DTORCH_API_INCLUDE_EXTENSION_H']


def fail(sentence: str) -> None:
    sys.exit(f'mmkdna set-up: {sentence}')


def say(sentence: str) -> None:
    print(f'[set-up] {sentence}', flush=True)


def run(command: list, on_line=None, env: dict | None = None) -> None:
    """Run a command with its output in the log; explain it if it fails."""
    lines: list[str] = []
    with LOG.open('a') as log:
        print('$', *command, file=log)
        process = subprocess.Popen(
            list(map(str, command)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(env or {})},
            text=True,
            errors='replace',
        )
        assert process.stdout is not None
        for line in process.stdout:
            log.write(line)
            lines = [*lines[-400:], line]
            if on_line:
                on_line(line)
    if process.wait():
        fail(explain(''.join(lines)))


def explain(output: str) -> str:
    """One sentence for why a command failed."""
    if re.search('No space left|Disk quota exceeded', output):
        return (
            f'the disk is full; it needs about {NEEDED_GIB} GiB in {ROOT} '
            f'and 1 GiB in {HOME}. Free some, then run the same command.'
        )
    if re.search(
        'dns error|resolve host|[Cc]onnection (refused|reset|error)|'
        'Failed to fetch|error sending request|NewConnectionError|'
        'Network is unreachable|Temporary failure|No matching distribution',
        output,
    ):
        return (
            'the package index cannot be reached; check the network (and '
            f'a proxy), then run the same command. Details: {LOG}'
        )
    if re.search('Python.h: No such file', output):
        return (
            'the headers of Python are missing; install them (Debian and '
            'Ubuntu: apt-get install python3-dev), then run the same '
            'command.'
        )
    last = [line for line in output.splitlines() if line.strip()][-1:]
    return f'a step failed ({" ".join(last).strip()}). Details: {LOG}'


def check_own(python: str) -> None:
    """Check a user's environment; change nothing in it."""
    code = (
        'import importlib, sys\n'
        'for name in sys.argv[1:]:\n'
        '    try: importlib.import_module(name)\n'
        '    except Exception as e: print(f"{name}\\t{e}")\n'
    )
    try:
        done = subprocess.run(
            [python, '-c', code, *MODULES],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        fail(
            f'MMKDNA_PYTHON={python} does not run ({error}); give the path '
            'of a Python of 3.10 or later.'
        )
    missing = dict(
        line.split('\t', 1)
        for line in done.stdout.splitlines()
        if '\t' in line
    )
    if missing:
        names = ' '.join(MODULES[name] for name in missing)
        why = '; '.join(f'{name}: {why}' for name, why in missing.items())
        fail(
            f'MMKDNA_PYTHON={python} lacks {names} ({why}); install them '
            'there, or unset MMKDNA_PYTHON to let mmkdna make its own '
            '.venv.'
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
                f'{needed}; free some, then run the same command.'
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
    """The lines of requirements.txt for these distributions."""
    wanted = [
        line.strip()
        for line in REQUIREMENTS.read_text().splitlines()
        if re.split('[^a-zA-Z0-9-]', line)[0] in names
    ]
    if len(wanted) != len(names):
        fail(f'{REQUIREMENTS} should pin each of {", ".join(names)} once')
    return wanted


def output_of(code: str, **env: str) -> str:
    """What a line of Python prints in the new environment."""
    done = subprocess.run(
        [PYTHON, '-c', code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **env},
    )
    if done.returncode:
        fail(explain(done.stderr))
    return done.stdout.strip()


def mmcv_wheel() -> Path:
    """mmcv with its ops, compiled once for each torch and Python."""
    key = output_of(
        'import sys, sysconfig, torch;'
        'kind = "cuda" if torch.cuda.is_available() else "cpu";'
        'print(f"torch{torch.__version__}-{sys.implementation.cache_tag}-'
        '{sysconfig.get_platform()}-{kind}")'
    )
    folder = HOME / 'wheels' / key
    (pin,) = pins('onedl-mmcv')
    pattern = f'{pin.replace("-", "_").replace("==", "-")}-*.whl'
    if not (found := list(folder.glob(pattern))):
        compile_mmcv(pin, folder)
        found = list(folder.glob(pattern))
    return found[0]


def compile_mmcv(pin: str, folder: Path) -> None:
    compiler = shutil.which(os.environ.get('CXX', 'c++')) or shutil.which(
        'g++'
    )
    if compiler is None:
        fail(
            'no C++ compiler was found, and mmcv compiles its ops here; '
            'install one (Debian and Ubuntu: apt-get install g++), or set '
            'MMKDNA_PYTHON to a Python that has mmcv.'
        )
    if (
        output_of(
            'import torch; from torch.utils.cpp_extension import CUDA_HOME;'
            'print(torch.cuda.is_available() and CUDA_HOME is None)'
        )
        == 'True'
    ):
        fail(
            'there is a GPU but no CUDA toolkit (nvcc) to compile mmcv for '
            'it; install the one of `nvidia-smi`, set MMKDNA_PYTHON to a '
            'Python that has mmcv, or use the CPU: CUDA_VISIBLE_DEVICES= '
            'make demo'
        )
    say("compiling mmcv's ops (once a machine; 2 to 5 minutes on 2 cores)")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='build-', dir=folder) as work:
        header = precompiled_header(compiler, Path(work))
        flags = (
            f'{COMPILER_FLAGS} -include {header}' if header else COMPILER_FLAGS
        )
        run(
            [
                PYTHON,
                '-m',
                'pip',
                'wheel',
                '-v',
                '--no-deps',
                '--no-build-isolation',
                '--no-binary',
                ':all:',
                '-w',
                work,
                pin,
            ],
            show_compiled,
            {
                'CFLAGS': flags,
                'MMCV_WITH_OPS': '1',
                'MAX_JOBS': os.environ.get('MAX_JOBS', str(os.cpu_count())),
                'PATH': f'{PYTHON.parent}{os.pathsep}{os.environ["PATH"]}',
            },
        )
        for wheel in Path(work).glob('*.whl'):
            os.replace(wheel, folder / wheel.name)


def precompiled_header(compiler: str, work: Path) -> Path | None:
    """torch's headers, parsed once instead of once a file.

    gcc ignores a header made with other flags than the build's, so these are
    asked for: torch's build of an extension gives setuptools' flags for C to
    the C++ compiler, and adds its own.
    """
    flags = output_of(
        'from setuptools._distutils.ccompiler import new_compiler;'
        'from setuptools._distutils.sysconfig import customize_compiler;'
        'c = new_compiler(); customize_compiler(c);'
        'print("\\n".join(c.compiler_so[1:]))',
        CFLAGS=COMPILER_FLAGS,
    ).splitlines()
    version = subprocess.run(
        [compiler, '--version'], capture_output=True, text=True, check=False
    ).stdout
    if 'Free Software Foundation' not in version:
        return None
    includes = output_of(
        'import sysconfig; from torch.utils.cpp_extension import *;'
        'print("\\n".join(include_paths()'
        ' + [sysconfig.get_path("include")]))'
    ).splitlines()
    header = work / 'torch_types.h'
    header.write_text('#include <torch/types.h>\n')
    run(
        [
            compiler,
            *flags,
            *TORCH_FLAGS,
            *(f'-I{path}' for path in includes),
            '-x',
            'c++-header',
            header,
            '-o',
            f'{header}.gch',
        ]
    )
    return header


def show_compiled(line: str) -> None:
    """Show ninja's `[12/78]`: in place on a terminal, else now and then."""
    if match := re.match(r'\s*\[(\d+)/(\d+)\]', line):
        done, total = map(int, match.groups())
        if sys.stdout.isatty():
            end = '\n' if done == total else ''
            print(f'\r[set-up] {done} of {total}', end=end, flush=True)
        elif done % 20 == 0 or done == total:
            say(f'{done} of {total} files')


def fingerprint() -> str:
    """Equal as long as a finished `.venv` is what this file would make."""
    made_from = REQUIREMENTS.read_bytes() + Path(__file__).read_bytes()
    return hashlib.sha256(made_from).hexdigest()


def main() -> None:
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


def set_up() -> None:
    headers = Path(sysconfig.get_path('include')) / 'Python.h'
    if not headers.exists():
        fail(explain('Python.h: No such file'))
    uv = find_uv()
    if not PYTHON.exists():
        run([uv, 'venv', '--python', sys.executable, VENV])
    install = [uv, 'pip', 'install', '--python', PYTHON]
    say('installing PyTorch (about 3 GB; 20 seconds to some minutes)')
    run(
        [
            *install,
            *pins(
                'torch',
                'torchvision',
                'numpy',
                'setuptools',
                'wheel',
                'ninja',
                'pip',
            ),
        ]
    )
    wheel = mmcv_wheel()
    say('installing OpenMMLab and tools (some seconds)')
    run([*install, wheel])
    run([*install, '-r', REQUIREMENTS])
    run([*install, '--no-deps', MIM])
    run([*install, '--no-deps', '-e', ROOT])
    run([PYTHON, '-c', 'import mmkdna, mmcv.ops, mmdet, mmseg, mmpretrain'])


if __name__ == '__main__':
    main()
