"""The set-up explains what is wrong in one sentence."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys

import pytest
from helpers import ROOT


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Load it for a stack; its files are in a temporary folder."""

    def load(stack):
        monkeypatch.setenv('MMKDNA_HOME', str(tmp_path / 'home'))
        monkeypatch.setenv('MMKDNA_STACK', stack)
        monkeypatch.delenv('MMKDNA_PYTHON', raising=False)
        spec = importlib.util.spec_from_file_location(
            'bootstrap', ROOT / 'tools' / 'bootstrap.py'
        )
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.HOME.mkdir()
        monkeypatch.setattr(module, 'READY', tmp_path / 'ready')
        return module

    return load


@pytest.fixture
def bootstrap(load):
    return load('')


@pytest.mark.parametrize(
    ('output', 'sentence'),
    [
        ('error: No space left on device (os error 28)', 'the disk is full'),
        ('client error (Connect): dns error', 'index cannot be reached'),
        ('Connection refused (os error 111)', 'index cannot be reached'),
        (
            'torch==2.4.1 has no wheels with a matching Python ABI tag',
            'put python3 of 3.10 to 3.12 first',
        ),
        ('fatal error: Python.h: No such file', 'python3-dev'),
        (
            'OSError: CUDA_HOME environment variable is not set. Please set',
            'there is a GPU, but no nvcc',
        ),
        (
            'The detected CUDA version (11.8) mismatches the version',
            'there is a GPU, but no nvcc',
        ),
        (
            "nvcc fatal : Unsupported gpu architecture 'compute_61'",
            'there is a GPU, but no nvcc',
        ),
        ('first\nninja: build stopped\n\n', 'failed (ninja: build stopped)'),
    ],
)
def test_failure_is_one_sentence(bootstrap, output, sentence):
    assert sentence in bootstrap.explain(output)
    assert '\n' not in bootstrap.explain(output)


def test_failing_command_ends_with_its_explanation(bootstrap):
    with pytest.raises(SystemExit, match='index cannot be reached'):
        bootstrap.run(
            [sys.executable, '-c', 'exit(print("Failed to fetch x") or 1)']
        )
    assert 'Failed to fetch x' in bootstrap.LOG.read_text()


def test_no_network_is_a_sentence(bootstrap, tmp_path):
    """A real pip that asks a port where nobody listens."""
    nowhere = 'http://127.0.0.1:9/simple'
    with pytest.raises(SystemExit, match='index cannot be reached'):
        bootstrap.run(
            [
                *(sys.executable, '-m', 'pip', 'install', '--retries', '0'),
                *('--index-url', nowhere, '--target', tmp_path / 't', 'uv'),
            ]
        )


def test_no_compiler_is_a_sentence(bootstrap, monkeypatch, tmp_path):
    monkeypatch.setenv('PATH', str(tmp_path))
    monkeypatch.delenv('CXX', raising=False)
    with pytest.raises(SystemExit, match=r'no C\+\+ compiler'):
        bootstrap.compile_mmcv('onedl-mmcv==2.3.6', tmp_path / 'wheels', '')


def test_full_disk_is_a_sentence(bootstrap, monkeypatch):
    usage = shutil.disk_usage('/')._replace(free=2**30)
    monkeypatch.setattr(shutil, 'disk_usage', lambda folder: usage)
    with pytest.raises(SystemExit, match='1.0 GiB free, expected 8'):
        bootstrap.check_machine()


def test_environment_that_is_complete_is_left_alone(bootstrap, monkeypatch):
    monkeypatch.setattr(
        bootstrap, 'set_up', lambda: pytest.fail('set up again')
    )
    bootstrap.READY.write_text(bootstrap.fingerprint())
    bootstrap.main()
    bootstrap.READY.write_text('of another requirements.txt')
    with pytest.raises(pytest.fail.Exception):
        bootstrap.main()


@pytest.mark.parametrize(
    ('stack', 'folder', 'torch', 'mmcv'),
    [
        ('', '.venv', 'torch==2.13.0', 'onedl-mmcv==2.3.6'),
        ('maintained', '.venv', 'torch==2.13.0', 'onedl-mmcv==2.3.6'),
        ('original', '.venv-original', 'torch==2.4.1', 'mmcv==2.1.0'),
    ],
)
def test_a_stack_has_its_folder_and_its_pins(load, stack, folder, torch, mmcv):
    bootstrap = load(stack)
    assert ROOT / folder == bootstrap.VENV
    assert bootstrap.pins('mmcv', 'torch') == [torch, mmcv]
    assert len(bootstrap.pins(*bootstrap.FIRST.split())) == 7
    with pytest.raises(SystemExit, match='nothing-like-this'):
        bootstrap.pins('nothing-like-this')


@pytest.mark.parametrize('stack', ['maintained', 'original'])
def test_the_readme_has_the_versions_of_a_stack(load, stack):
    text = load(stack).REQUIREMENTS.read_text()
    versions = re.findall(r'^[\w-]+==(\S+)$', text, re.MULTILINE)[:7]
    assert f' | {" | ".join(versions)} |' in (ROOT / 'README.md').read_text()


def test_a_stack_that_is_unknown_is_named():
    done = subprocess.run(
        ['make', '--no-print-directory', 'test', 'STACK=newest'],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert done.stdout == ''
    expected = 'STACK=newest is unknown, expected maintained or original.'
    assert expected in done.stderr


def test_environment_that_is_broken_is_a_sentence(bootstrap, monkeypatch):
    monkeypatch.setattr(bootstrap, 'PYTHON', sys.executable)
    assert bootstrap.output_of('print(1)') == '1'
    with pytest.raises(SystemExit, match='failed .ModuleNotFoundError'):
        bootstrap.output_of('import no_such_module')


def test_progress_of_the_compiler_is_shown(bootstrap, capsys):
    for line in ('[1/78] c++ a.cpp', '  [40/78] c++', '[78/78] c++', 'x'):
        bootstrap.show_compiled(line)
    assert capsys.readouterr().out.splitlines() == [
        '[set-up] 40 of 78 files',
        '[set-up] 78 of 78 files',
    ]


def run_bootstrap(python):
    return subprocess.run(
        [sys.executable, ROOT / 'tools' / 'bootstrap.py'],
        env={**os.environ, 'MMKDNA_PYTHON': str(python)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_own_environment_is_accepted_as_it_is():
    done = run_bootstrap(sys.executable)
    assert (done.returncode, done.stdout) == (0, ''), done.stderr


def test_own_environment_that_lacks_packages_is_told_which(tmp_path):
    subprocess.run(
        [sys.executable, '-m', 'venv', '--without-pip', tmp_path / 'bare'],
        check=True,
    )
    done = run_bootstrap(tmp_path / 'bare' / 'bin' / 'python')
    assert done.returncode == 1
    assert 'lacks torch torchvision mmengine mmcv' in done.stderr


def test_own_python_that_does_not_exist_is_told(tmp_path):
    done = run_bootstrap(tmp_path / 'nothing')
    assert done.returncode == 1
    assert 'nothing does not run' in done.stderr
    assert 'Traceback' not in done.stderr


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\n{text}\n')
    path.chmod(0o755)
    return path


def test_nvcc_is_of_the_cuda_version_of_torch(
    bootstrap, monkeypatch, tmp_path
):
    lib = tmp_path / 'site' / 'nvidia' / 'cu13' / 'lib'
    lib.mkdir(parents=True)
    (lib / 'libcudart.so.13').touch()
    asked = tmp_path / 'asked'
    script(tmp_path / 'bin' / 'uv', f'echo "$@" > {asked}')
    monkeypatch.setenv('PATH', str(tmp_path / 'bin'), prepend=os.pathsep)
    python = script(tmp_path / 'python', f'echo {tmp_path / "site"}')
    monkeypatch.setattr(bootstrap, 'PYTHON', python)
    assert bootstrap.cuda_compiler('13.2') == {'CUDA_HOME': str(lib.parent)}
    assert 'nvidia-cuda-nvcc==13.2.* ' in asked.read_text()
    assert (lib / 'libcudart.so').resolve() == lib / 'libcudart.so.13'
    # The package index has none of that one: the build looks for a toolkit.
    assert bootstrap.cuda_compiler('12.1') == {}
