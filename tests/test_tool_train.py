"""tools/train.py: what is missing is said before it begins."""

import subprocess
import sys

import pytest
from helpers import COCO, DIGITS, ROOT


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


def test_auto_scale_lr_needs_its_batch_size(tool, capsys):
    none = ['--cfg-options', 'auto_scale_lr=None']
    with pytest.raises(SystemExit):
        tool('train').main([DIGITS, '--auto-scale-lr', *none])
    assert 'base_batch_size' in capsys.readouterr().err
