"""The GPU report: what it promises, on a CPU at tiny size; what it refuses."""

import json
import math
import os
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
import torch
import torch.distributed.fsdp
from helpers import ROOT

import mmkdna
from mmkdna.errors import BadInput
from mmkdna.measure.configs import CONV_TYPES, PLAIN
from mmkdna.measure.subjects import Conditions

sys.path.insert(0, str(ROOT / 'experiments'))

import cifar
import gpu_cifar
import gpu_plan
import gpu_report
import gpu_steps

TINY = ('--device', 'cpu', '--tiny')


@pytest.fixture
def data(tmp_path):
    """Grey images, each with its number as its offset from the last."""
    folder = tmp_path / 'data'
    folder.mkdir()
    for split in cifar.SPLITS:
        pixels = [np.full((32, 32, 3), 20 * i, np.uint8) for i in range(12)]
        files = [cv2.imencode('.jpg', image)[1].ravel() for image in pixels]
        np.savez(
            folder / f'cifar10_{split}.npz',
            jpeg=np.concatenate(files),
            offsets=np.cumsum([0, *map(len, files)]),
            labels=np.arange(12) % 10,
        )
    return folder


def read(out):
    """Both files, whole at any time."""
    text = (out / 'gpu_report.md').read_text()
    return json.loads((out / 'gpu_report.json').read_text()), text


@pytest.mark.slow
@pytest.mark.skipif(
    not hasattr(torch.distributed.fsdp, 'fully_shard'),
    reason='torch 2.4 runs FSDP2 on GPUs alone',
)
def test_it_measures_what_it_promises_and_goes_on(data, tmp_path):
    out = tmp_path / 'out'
    arguments = [*TINY, '--data', str(data), '--minutes', '90']
    arguments += ['--out', str(out)]
    command = [sys.executable, 'experiments/gpu_report.py', *arguments]
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        begun = (line for line in process.stdout if line.startswith('R-50'))
        for _ in range(3):
            next(begun)
        process.kill()
    before = read(out)[0]['steps']
    assert process.returncode == -signal.SIGKILL
    assert len(before) == 2
    gpu_report.main(arguments)
    found, text = read(out)
    assert found['left'] == {}
    assert '## Left out' not in text
    assert found['steps'].items() >= before.items()
    assert sorted(p.suffix for p in out.iterdir()) == ['.json', '.md']
    titles = [step.title for step in gpu_plan.plan(gpu_plan.TINY, 'cpu')]
    assert list(found['steps'])[: len(titles)] == titles
    for title, step in found['steps'].items():
        assert f'## {step.get("title", title)}\n' in text
        if step['kind'] == 'times':
            for name, row in step['rows'].items():
                assert f'| {name} ' in text
                assert math.isfinite(row['ratio'])
                low, high = row['quartiles']
                assert 0 < low <= row['ratio'] <= high
        elif step['kind'] == 'kernels':
            ours, plain = step['kernels']['all of them']
            assert ours > 0 < plain
        else:
            assert 0 <= step['accuracy'] <= 100
    for compiled in ('', ', compiled by eager'):
        for dtype in ('bfloat16', 'float32'):
            for mode in ('forward', 'step'):
                size = f'R-50, {mode}, batch 2, 32x32, cpu, {dtype}, channels'
                names = {
                    name
                    for title, step in found['steps'].items()
                    if title.startswith(f'{size} last{compiled}')
                    and ('compiled' in title) == bool(compiled)
                    for name in step['rows']
                }
                assert names == {PLAIN, *CONV_TYPES}
    runs = [s for s in found['steps'].values() if s['kind'] == 'run']
    names = [PLAIN, 'plain, narrowed', 'KernelDNA', 'KernelDNA, deeper']
    assert {s['network'] for s in runs} == {*names, *CONV_TYPES}
    sizes = {s['network']: s['row']['parameters'] for s in runs}
    plain, narrowed, ours, deeper = (sizes[name] for name in names)
    assert ours < deeper
    assert ours < plain
    # A channel is worth a lot at this width.
    assert narrowed < plain


def test_a_step_that_fails_or_does_not_fit_is_named(tmp_path):
    def fails():
        raise RuntimeError('no such kernel')

    rows = {PLAIN: dict(seconds=1.0, parameters=1)}
    report = gpu_steps.Report(tmp_path, dict(device='CPU'))
    report.run(
        [
            gpu_steps.Step('bad', 0, 'times', fails),
            gpu_steps.Step('good', 0, 'times', lambda: dict(rows=rows)),
            gpu_steps.Step('long', 1e6, 'times', fails),
        ],
        time.monotonic() + 60,
    )
    found, text = read(tmp_path)
    assert list(found['steps']) == ['good']
    assert '- bad: RuntimeError: no such kernel\n- long: no time left' in text
    again = gpu_steps.Report(tmp_path, dict(device='CPU'))
    again.run([gpu_steps.Step('good', 0, 'times', fails)], math.inf)
    assert not again.left
    with pytest.raises(BadInput, match='expected another --out'):
        gpu_steps.Report(tmp_path, dict(device='another'))


def test_what_a_user_gets_wrong_is_a_sentence(data, tmp_path):
    (tmp_path / 'file').write_text('')
    out = ('--out', str(tmp_path / 'out'))
    wrong = {
        ('--device', 'fast'): '--device fast: expected a device of',
        ('--device', 'cpu'): '--device cpu: expected a GPU',
        (*TINY, '--data', str(tmp_path)): 'cifar10_train.npz cannot be read',
        (*TINY, '--out', str(tmp_path / 'file')): 'cannot be written',
    }
    if not torch.cuda.is_available():
        wrong['--device', 'cuda'] = 'expected a device of this machine'
    for arguments, sentence in wrong.items():
        with pytest.raises(BadInput, match=sentence):
            gpu_report.main([*out, *arguments])
    np.savez(data / 'cifar10_test.npz', labels=np.arange(3))
    with pytest.raises(BadInput, match=r'cifar10_test.npz .* jpeg, offsets'):
        gpu_cifar.load(data)


def test_cifar_is_read_in_its_order(data):
    images, labels = gpu_cifar.load(data, 5)['train']
    assert images.shape == (5, 32, 32, 3)
    assert images.float().mean((1, 2, 3)).tolist() == [0, 20, 40, 60, 80]
    assert labels.tolist() == [0, 1, 2, 3, 4]


def test_a_crop_is_shifted_and_may_be_flipped():
    one = torch.zeros(1, 8, 8, 3, dtype=torch.uint8)
    one[0, 4, 2] = 9
    draw = torch.Generator().manual_seed(0)
    chosen = torch.zeros(200, dtype=torch.long)
    found = cifar.crops(cifar.padded(one), chosen, draw)
    places = {
        (int(row), int(column))
        for image in found
        for row, column in (image[..., 0] == 9).nonzero()
    }
    # Rows by up to 4 either way; columns 2 and, flipped, 5.
    assert {row for row, _ in places} == {0, 1, 2, 3, 4, 5, 6, 7}
    assert {column for _, column in places} == {0, 1, 2, 3, 4, 5, 6, 7}
    assert (found == 9).flatten(1).sum(1).max() == 3


def test_a_run_learns():
    how = Conditions(8, (32, 32), 'cpu', 'bfloat16')
    labels = torch.arange(32) % 2
    images = (60 + 120 * labels[:, None, None, None]).expand(-1, 32, 32, 3)
    split = cifar.Split(images.to(torch.uint8), labels)
    both = dict.fromkeys(cifar.SPLITS, split)
    compared = gpu_cifar.Comparison(both, how, 8, 2, (1, 1))
    assert compared.result('KernelDNA', 0, 10) > 90
    names = ('KernelDNA', 'KernelDNA, deeper')
    models = [compared.subject(name).model for name in names]
    assert [len(mmkdna.list_families(m)) for m in models] == [2, 4]
