"""A disk that is full, a folder that takes nothing, Ctrl-C: a sentence.

The limit of the size of a file stands for a full disk: the system refuses
the bytes in the middle of a file in the same way.
"""

import os
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from helpers import ROOT
from mmengine.config import Config
from zoo_server import FILE, SHA, SIZE

from mmkdna.cli import exit_on_bad_input
from mmkdna.datasets import digit_scenes
from mmkdna.measure.configs import build_model
from mmkdna.zoo.store import obtain

CONFIG = f'{ROOT}/configs/digits/kdna_r18.py'
FULL = 'File too large'
TINY = [
    'train_dataloader.batch_size=4',
    'train_cfg.max_epochs=1',
    'digit_scenes.num_train=4',
    'digit_scenes.num_val=2',
]


@contextmanager
def full_after(size):
    """No file may be longer."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def parts(folder):
    return [path for path in folder.rglob('*') if '.part' in path.name]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory, with a checkpoint."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', raising=False)
    model = build_model(Config.fromfile(CONFIG))
    torch.save({'state_dict': model.state_dict()}, 'run.pth')
    return tmp_path


@pytest.fixture
def commands(tool, server, monkeypatch):
    """Each command that writes, and how long a file may get."""

    def of(name, *arguments):
        return lambda _: tool(name).main([*arguments])

    url = f'{server.url}/ok/{FILE}'
    monkeypatch.setenv('MMKDNA_HOME', 'out')
    return {
        'convert': (of('convert_checkpoint', 'run.pth', CONFIG, 'out/a.pth')),
        'bake': of('bake', 'run.pth', CONFIG, 'out/a.safetensors'),
        'publish': of('publish_model', 'run.pth', CONFIG, 'out'),
        'download': lambda _: obtain(FILE, SHA, SIZE, (url,)),
        'digits': lambda _: digit_scenes.write_scenes(
            'out', num_train=2, num_val=1
        ),
    }


NAMES = ['convert', 'bake', 'publish', 'download', 'digits']


@pytest.mark.parametrize('name', NAMES)
def test_a_full_disk_is_a_sentence_and_leaves_nothing(folder, commands, name):
    command = commands[name]
    with pytest.raises(SystemExit) as raised, full_after(5000):
        exit_on_bad_input(command)
    assert f'cannot be written: {FULL}' in str(raised.value.code)
    assert '\n' not in raised.value.code
    left = [p for p in (folder / 'out').rglob('*') if p.is_file()]
    assert [p for p in left if p.suffix != '.lock'] == []
    # With room it works, where it did not.
    exit_on_bad_input(command)
    assert any((folder / 'out').iterdir())
    assert parts(folder) == []


@pytest.mark.parametrize('name', NAMES)
def test_a_place_that_takes_no_folder_is_a_sentence(folder, commands, name):
    (folder / 'out').touch()
    with pytest.raises(SystemExit) as raised:
        exit_on_bad_input(commands[name])
    assert isinstance(raised.value.code, str)
    assert (folder / 'out').read_bytes() == b''
    assert sorted(os.listdir()) == ['out', 'run.pth']


def test_training_on_a_full_disk_is_a_sentence_and_goes_on_later(
    folder, tool, capsys
):
    def train(*more):
        options = ['--cfg-options', *TINY, *more]
        arguments = [CONFIG, '--resume', '--work-dir', 'run', *options]
        exit_on_bad_input(lambda _: tool('train').main(arguments))

    with pytest.raises(SystemExit) as raised, full_after(100_000):
        train()
    assert f'epoch_1.pth cannot be written: {FULL}' in str(raised.value.code)
    assert list(Path('run').glob('*.pth*')) == []
    train()
    assert [p.name for p in Path('run').glob('*.pth*')] == ['epoch_1.pth']
    # The second epoch does not fit: the first one stays.
    with pytest.raises(SystemExit), full_after(100_000):
        train('train_cfg.max_epochs=2')
    assert [p.name for p in Path('run').glob('*.pth*')] == ['epoch_1.pth']
    train('train_cfg.max_epochs=2')
    assert [p.name for p in Path('run').glob('*.pth*')] == ['epoch_2.pth']


def test_pictures_on_a_full_disk_are_a_sentence_and_not_half_there(
    folder, tool, monkeypatch
):
    digit_scenes.write_scenes('scenes', num_train=1, num_val=1)
    shutil.copy('scenes/images/val/000000.png', 'image.png')
    arguments = [CONFIG, 'run.pth', 'image.png', '--out-dir', 'out']
    with pytest.raises(SystemExit, match=FULL), full_after(5000):
        exit_on_bad_input(lambda _: tool('infer').main(arguments))
    assert [p for p in Path('out').rglob('*') if p.is_file()] == []


TOOLS = {
    'train': [CONFIG, '--work-dir', 'out', '--cfg-options', *TINY],
    'convert_checkpoint': ['run.pth', CONFIG, 'out/a.pth'],
    'bake': ['run.pth', CONFIG, 'out/a.safetensors'],
    'publish_model': ['run.pth', CONFIG, 'out'],
}
WAITS = """
import os, runpy, signal, sys

# A job in the background inherits that it is ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)

def wait(source, target, replace=os.replace):
    # The first file is written, and not in its place yet.
    if source.endswith('.part'):
        # A tool may have turned its output elsewhere.
        print('writes', file=sys.__stdout__, flush=True)
        sys.stdin.read()
    replace(source, target)

os.replace = wait
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name='__main__')
"""


@pytest.mark.parametrize('name', TOOLS)
def test_ctrl_c_is_a_sentence_and_leaves_nothing(folder, name):
    script = str(ROOT / 'tools' / f'{name}.py')
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, '-c', WAITS, script, *TOOLS[name]],
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        text=True,
    )
    for line in process.stdout:
        if line == 'writes\n':
            break
    assert parts(folder)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130
    assert said.splitlines()[-1].endswith(': interrupted')
    assert 'Traceback' not in said
    assert parts(folder) == []
    assert not list(folder.glob('out/*.safetensors'))
    assert not list(folder.glob('out/*.pth'))
