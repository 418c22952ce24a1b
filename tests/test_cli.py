"""What the command lines of tools/ share."""

import argparse
import errno
import subprocess
import sys

import pytest
from helpers import DIGITS, ROOT
from mmengine.config import Config

from mmkdna.cli import build_runner, exit_on_bad_input, joined, share
from mmkdna.errors import BadInput


def test_only_bad_input_is_a_sentence():
    def checked(argv):
        raise FileNotFoundError('config x does not exist')

    def from_inside_a_run(argv):
        (ROOT / 'no such image.png').read_bytes()

    with pytest.raises(SystemExit, match='config x does not exist'):
        exit_on_bad_input(checked)
    with pytest.raises(FileNotFoundError, match='no such image'):
        exit_on_bad_input(from_inside_a_run)


def test_a_reader_that_goes_is_no_error():
    command = [sys.executable, '-m', 'mmkdna.zoo', 'where']
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as process:
        process.stdout.close()
        said = process.stderr.read()
    assert 'Traceback' not in said
    assert 'BrokenPipeError' not in said
    assert process.returncode == 1


def test_another_broken_pipe_is_an_error():
    def main(argv):
        raise BrokenPipeError('of a worker')

    with pytest.raises(BrokenPipeError, match='of a worker'):
        exit_on_bad_input(main)


def test_a_full_disk_is_a_sentence_whoever_finds_it():
    def main(argv):
        raise OSError(errno.ENOSPC, 'No space left on device', 'run/log.json')

    def other(argv):
        raise OSError(errno.EIO, 'Input/output error', 'run/log.json')

    with pytest.raises(SystemExit, match='run/log.json cannot be written: No'):
        exit_on_bad_input(main)
    with pytest.raises(OSError, match='Input/output error'):
        exit_on_bad_input(other)


def test_a_share_may_begin_with_a_minus():
    argv = ['a.py', '--budget', '-25%', '--out', 'b']
    assert joined('--budget', argv) == ['a.py', '--budget=-25%', '--out', 'b']
    assert joined('--budget', ['a.py', '--budget']) == ['a.py', '--budget']
    assert share('-25%') == share('-0.25') == -0.25
    with pytest.raises(argparse.ArgumentTypeError, match='such as -25%'):
        share('a quarter')


@pytest.mark.parametrize('name', ['train', 'report'])
def test_config_that_does_not_exist_is_named(tool, name):
    with pytest.raises(FileNotFoundError, match='configs/nothing.py'):
        tool(name).main(['configs/nothing.py'])


@pytest.mark.parametrize('option', ['bare', 'model.x.y'])
def test_an_option_without_a_value_is_named(tool, capsys, option):
    with pytest.raises(SystemExit):
        tool('report').main([DIGITS, '--cfg-options', 'a=1', option])
    assert f'{option}: expected KEY=VALUE' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('min_chanels=3', 'did you mean min_channels'),
        ('norm=GN', "norm='GN': expected one of"),
        ('families=3', 'families=3: expected a list of lists'),
    ],
)
def test_a_mistake_in_a_conv_cfg_is_a_sentence(
    tool, option, message, monkeypatch
):
    options = ['--cfg-options', f'model.backbone.conv_cfg.{option}']
    monkeypatch.setattr(sys, 'argv', ['report.py', DIGITS, *options])

    def main(_):
        tool('report').main(sys.argv[1:])

    with pytest.raises(SystemExit, match=f'report.py: .*{message}'):
        exit_on_bad_input(main)


def test_a_work_dir_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / 'file').touch()
    cfg = Config(dict(work_dir=str(tmp_path / 'file/run')))
    with pytest.raises(BadInput, match='run cannot be written.*--work-dir'):
        build_runner(cfg)


@pytest.mark.parametrize('name', ['infer', 'get_flops', 'benchmark'])
def test_config_of_no_known_library_is_named(tool, tmp_path, name):
    config = tmp_path / 'other.py'
    config.write_text("default_scope = 'mmagic'\nmodel = dict(type='X')\n")
    rest = ['x.pth', 'x.png'] if name == 'infer' else []
    with pytest.raises(BadInput, match=r"other\.py: default_scope='mmagic'"):
        tool(name).main([str(config), *rest])
