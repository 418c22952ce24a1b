"""The command lines of tools/."""

import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from helpers import ROOT
from mmengine.config import Config

from mmkdna.cli import build_runner, exit_on_bad_input
from mmkdna.errors import BadInput

DIGITS = str(ROOT / 'configs/digits/kdna_maskrcnn_r18.py')
COCO = str(ROOT / 'configs/kdna_maskrcnn_r50.py')


def test_report_shows_families_and_totals(tool, capsys):
    tool('report').main([COCO])
    out = capsys.readouterr().out
    lines = [line.split() for line in out.splitlines() if 'conv' in line]
    children = {words[0]: words[2] for words in lines if 'child' in words}
    assert children == {
        'backbone.layer3.2.conv2': 'backbone.layer3.3.conv2',
        'backbone.layer3.4.conv2': 'backbone.layer3.5.conv2',
        'backbone.layer4.1.conv2': 'backbone.layer4.2.conv2',
        'neck.fpn_convs.0.conv': 'neck.fpn_convs.1.conv',
        'neck.fpn_convs.2.conv': 'neck.fpn_convs.3.conv',
    }
    totals = ' '.join(out.split())
    assert '39,943,773 parameters, 44,396,336 if it were plain' in totals
    assert '5 families' in totals


def test_report_of_a_plain_model_says_so(tool, capsys):
    plain = ['model.backbone.conv_cfg=None', 'model.neck.conv_cfg=None']
    tool('report').main([COCO, '--cfg-options', *plain])
    totals = ' '.join(capsys.readouterr().out.split())
    assert '44,396,336 parameters, 44,396,336 if it were plain' in totals
    assert '0 families' in totals


def test_training_without_coco_says_what_to_do(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / 'tools/train.py', COCO],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert 'Traceback' not in done.stderr
    missing = 'data/coco/annotations/instances_train2017.json is missing'
    assert missing in done.stderr
    assert 'train2017.zip' in done.stderr
    assert 'configs/digits/kdna_maskrcnn_r18.py' in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_only_bad_input_is_a_sentence():
    def checked(argv):
        raise FileNotFoundError('config x does not exist')

    def from_inside_a_run(argv):
        (ROOT / 'no such image.png').read_bytes()

    with pytest.raises(SystemExit, match='config x does not exist'):
        exit_on_bad_input(checked)
    with pytest.raises(FileNotFoundError, match='no such image'):
        exit_on_bad_input(from_inside_a_run)


def test_missing_images_are_named_too(tool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    annotations = tmp_path / 'data/coco/annotations'
    annotations.mkdir(parents=True)
    for split in ('train', 'val'):
        (annotations / f'instances_{split}2017.json').write_text('{}')
    images = tmp_path / 'data/coco/train2017'
    images.mkdir()
    with pytest.raises(FileNotFoundError, match='coco/train2017/ is empty'):
        tool('train').main([COCO])
    (images / '000000000009.jpg').touch()
    with pytest.raises(FileNotFoundError, match='data/coco/val2017/ is miss'):
        tool('train').main([COCO])


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


def test_the_size_is_asked_for_as_it_is_parsed(tool):
    no_size = ['--cfg-options', 'test_dataloader.dataset.pipeline=[]']
    with pytest.raises(BadInput, match='--size HEIGHTxWIDTH'):
        tool('get_flops').main([DIGITS, *no_size])


def test_checkpoint_that_does_not_exist_is_named(tool):
    with pytest.raises(FileNotFoundError, match='nothing.pth'):
        tool('test').main([DIGITS, 'nothing.pth'])


def test_dump_must_be_a_pickle(tool, capsys):
    with pytest.raises(SystemExit):
        tool('test').main([DIGITS, 'x.pth', '--out', 'x.json'])
    assert 'ends in .pkl' in capsys.readouterr().err


def test_auto_scale_lr_needs_its_batch_size(tool, capsys):
    none = ['--cfg-options', 'auto_scale_lr=None']
    with pytest.raises(SystemExit):
        tool('train').main([DIGITS, '--auto-scale-lr', *none])
    assert 'base_batch_size' in capsys.readouterr().err


def test_run_that_is_not_finished_cannot_be_shown(tool, tmp_path):
    with pytest.raises(FileNotFoundError, match='holds no finished run'):
        tool('show_run').main([str(tmp_path)])


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


def test_costs_of_a_config_and_its_twin_are_a_row(tool, capsys):
    small = ['--size', '32x32', '--markdown']
    tool('get_flops').main([str(ROOT / 'configs/digits/kdna_r18.py'), *small])
    (row,) = [s for s in capsys.readouterr().out.splitlines() if '%' in s]
    cells = [cell.strip() for cell in row.strip('| ').split('|')]
    assert cells[1] == '32x32'
    assert float(cells[2]) < float(cells[3])


@pytest.mark.parametrize(
    ('names', 'message'),
    [
        (['nothing.png'], 'nothing.png does not exist'),
        (['no_image.png'], 'no_image.png: expected an image'),
        (['a/0.png', 'b/0.png'], '2 images are named 0'),
    ],
)
def test_infer_names_images_that_it_cannot_draw(
    tool, tmp_path, monkeypatch, names, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'no_image.png').write_text('text')
    for folder in 'ab':
        (tmp_path / folder).mkdir()
        cv2.imwrite(f'{folder}/0.png', np.zeros((4, 4, 3), np.uint8))
    (tmp_path / 'epoch_1.pth').touch()
    with pytest.raises((BadInput, FileNotFoundError), match=message):
        tool('infer').main([DIGITS, 'epoch_1.pth', *names])
    assert not (tmp_path / 'outputs').exists()


@pytest.mark.parametrize('name', ['infer', 'get_flops', 'benchmark'])
def test_config_of_no_known_library_is_named(tool, tmp_path, name):
    config = tmp_path / 'other.py'
    config.write_text("default_scope = 'mmagic'\nmodel = dict(type='X')\n")
    rest = ['x.pth', 'x.png'] if name == 'infer' else []
    with pytest.raises(BadInput, match=r"other\.py: default_scope='mmagic'"):
        tool(name).main([str(config), *rest])


def test_run_of_a_segmentor_is_not_drawn_as_detections(
    tool, tmp_path, monkeypatch
):
    cfg = Config.fromfile(ROOT / 'configs/digits/kdna_upernet_r18.py')
    show = tool('show_run')
    monkeypatch.setattr(show, 'find_run', lambda _: (cfg, 'x.pth'))
    with pytest.raises(BadInput, match='config of mmseg, expected one of mm'):
        show.main([str(tmp_path)])
