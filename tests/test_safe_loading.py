"""A pickle that would run code is refused wherever a checkpoint is read."""

import os
import pickle
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from helpers import ROOT, Hostile
from mmengine.runner import CheckpointLoader
from zoo_server import ZooServer

from mmkdna.checkpoint import read_checkpoint
from mmkdna.cli import exit_on_bad_input
from mmkdna.datasets.digit_scenes import write_scenes
from mmkdna.errors import BadInput
from mmkdna.zoo import load_tensors_only

sys.path.insert(0, str(ROOT / 'experiments'))

import cifar

CONFIG = f"""
_base_ = '{ROOT}/configs/digits/kdna_r18.py'
digit_scenes = None
train_dataloader = dict(
    batch_size=4, dataset=dict(data_root='images', data_prefix=''))
val_dataloader = train_dataloader
test_dataloader = train_dataloader
train_cfg = dict(max_epochs=1)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a config and images; the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', raising=False)
    for label in range(10):
        folder = tmp_path / 'images' / str(label)
        folder.mkdir(parents=True)
        pixels = np.full((48, 48, 3), 20 * label, np.uint8)
        cv2.imwrite(str(folder / '0.png'), pixels)
    (tmp_path / 'tiny.py').write_text(CONFIG)
    schemes = CheckpointLoader._schemes.copy()
    yield tmp_path
    CheckpointLoader._schemes = schemes


@pytest.fixture
def hostile(folder):
    """The same, with a checkpoint that is a trap: it would touch a file."""
    trap = Hostile(os.system, f'touch {folder / "ran"}')
    torch.save({'state_dict': {}, 'meta': trap}, 'trap.pth')
    return folder


def refused(folder):
    return not (folder / 'ran').exists()


def test_the_trap_works(hostile):
    torch.load('trap.pth', weights_only=False)
    assert not refused(hostile)


BACKBONE = 'model.backbone.init_cfg'


@pytest.mark.parametrize(
    ('name', 'arguments'),
    [
        ('train', ['tiny.py', '--resume', 'trap.pth']),
        ('train', ['tiny.py', '--cfg-options', 'load_from=trap.pth']),
        (
            'train',
            [
                'tiny.py',
                '--cfg-options',
                f'{BACKBONE}.type=Pretrained',
                f'{BACKBONE}.checkpoint=trap.pth',
            ],
        ),
        ('test', ['tiny.py', 'trap.pth']),
        ('infer', ['tiny.py', 'trap.pth', 'images/0/0.png']),
        ('convert_checkpoint', ['trap.pth', 'tiny.py', 'out.pth']),
        ('publish_model', ['trap.pth', 'tiny.py', 'out']),
    ],
)
def test_every_tool_refuses_it(hostile, tool, name, arguments):
    module = tool(name)
    with pytest.raises(
        BadInput, match='holds more than tensors.*posix.system'
    ):
        module.main(arguments)
    assert refused(hostile)


def test_what_the_web_sends_is_refused(hostile, monkeypatch, capsys):
    monkeypatch.setenv('TORCH_HOME', str(hostile / 'hub'))
    server = ZooServer({'trap.pth': (hostile / 'trap.pth').read_bytes()})
    url = f'{server.url}/ok/trap.pth'
    try:
        monkeypatch.setattr(sys, 'argv', ['test.py', 'tiny.py', url])
        with pytest.raises(SystemExit, match='holds more than tensors'):
            runpy.run_path(str(ROOT / 'tools/test.py'), run_name='__main__')
    finally:
        server.close()
    assert refused(hostile)


def test_no_text_of_a_checkpoint_is_run_as_a_config(folder, tool, capsys):
    """mmengine executes meta['config'] of what it resumes."""
    train = tool('train').main
    train(['tiny.py', '--work-dir', 'run'])
    saved = torch.load('run/epoch_1.pth', weights_only=False)
    saved['meta']['config'] = f"import os\nos.system('touch {folder}/ran')\n"
    torch.save(saved, 'trap.pth')
    longer = ['--cfg-options', 'train_cfg.max_epochs=2']
    resume = ['--work-dir', 'again', '--resume', 'trap.pth']
    exit_on_bad_input(lambda _: train(['tiny.py', *resume, *longer]))
    assert 'resumed epoch: 1' in capsys.readouterr().out
    assert refused(folder)


@pytest.mark.parametrize(
    'content',
    [b'<svg onload="x"/>', b'\x89PNG\r\n\x1a\n' + bytes(60), pickle.dumps(3)],
)
def test_an_image_that_is_none_is_named(folder, tool, content):
    (folder / 'image.png').write_bytes(content)
    with pytest.raises(BadInput, match='image.png: expected an image'):
        tool('infer').main(['tiny.py', 'tiny.py', 'image.png'])


def test_the_label_files_of_a_benchmark_run_nothing(hostile):
    trap = np.array([Hostile(os.system, f'touch {hostile / "ran"}')])
    np.savez('cifar10_train.npz', labels=trap, offsets=trap, jpeg=trap)
    with pytest.raises(BadInput, match='allow_pickle=False'):
        cifar.read(hostile, 'train')
    assert refused(hostile)


def test_the_label_files_of_scenes_run_nothing(hostile):
    trap = hostile / 'scenes/spec.json'
    trap.parent.mkdir()
    trap.write_bytes((hostile / 'trap.pth').read_bytes())
    with pytest.raises(FileExistsError, match='holds no digit scenes'):
        write_scenes(hostile / 'scenes', num_train=1, num_val=1)
    assert refused(hostile)


def test_nobody_overrules_it(hostile, monkeypatch):
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    load_tensors_only()
    with pytest.raises(BadInput, match='holds more than tensors'):
        CheckpointLoader.load_checkpoint('trap.pth')
    with pytest.raises(Exception, match='[Ww]eights'):
        torch.load('trap.pth', weights_only=False)
    assert refused(hostile)
    assert os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] == '1'


def test_what_the_runner_writes_loads_and_resumes(folder, tool, capsys):
    train = tool('train').main
    train(['tiny.py', '--work-dir', 'run'])
    read = read_checkpoint('run/epoch_1.pth')
    whole = torch.load('run/epoch_1.pth', weights_only=False)
    logged = read['message_hub']['log_scalars']
    expected = whole['message_hub']['log_scalars']
    assert logged.keys() == expected.keys() > {'train/loss', 'train/lr'}
    for name, buffer in expected.items():
        for got, written in zip(logged[name].data, buffer.data, strict=True):
            np.testing.assert_array_equal(got, written)
        assert logged[name].current() == buffer.current()
    assert read['message_hub']['runtime_info']['epoch'] == 0

    longer = ['--cfg-options', 'train_cfg.max_epochs=2']
    resume = ['--work-dir', 'run', '--resume', 'run/epoch_1.pth']
    train(['tiny.py', *resume, *longer])
    assert 'resumed epoch: 1' in capsys.readouterr().out
    assert Path('run/epoch_2.pth').exists()
