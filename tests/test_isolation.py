"""A model with KernelDNA runs where only torch, mmengine, mmcv-lite are."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

WITHOUT_THE_REST = """
import sys
from importlib.machinery import PathFinder

ABSENT = {'mmdet', 'mmseg', 'mmpretrain', 'torchvision', 'sklearn', 'scipy',
          'pycocotools', 'mmcv.ops', 'mmcv._ext'}

class Installed(PathFinder):
    # Python's own finder, for whom some packages are not there.
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name in ABSENT or name.split('.')[0] in ABSENT:
            return None
        return super().find_spec(name, path, target)

sys.meta_path = [
    Installed if finder is PathFinder else finder
    for finder in sys.meta_path]
for name in ABSENT:
    try:
        __import__(name)
        raise SystemExit(f'{name} is not blocked')
    except ModuleNotFoundError:
        pass
"""

MODEL = """
import mmkdna.layers, mmkdna.families
import mmkdna.cli, mmkdna.datasets  # training COCO needs no scikit-learn
import mmkdna
import torch
from mmcv.cnn import ConvModule
from mmengine.registry import MODELS

@MODELS.register_module()
class Net(torch.nn.Sequential):
    def __init__(self, conv_cfg):
        super().__init__(*(
            ConvModule(16, 16, 3, padding=1, conv_cfg=conv_cfg)
            for _ in range(4)))

model = MODELS.build(
    dict(type='Net', conv_cfg=dict(type='KernelDNA', min_channels=16)))
assert len(mmkdna.list_families(model)) == 2
model(torch.randn(1, 16, 8, 8)).sum().backward()
print('ran', mmkdna.report(model).parameters)
"""


BENCHMARK = f"""
import runpy
sys.argv = ['benchmark.py', '--layer', '16x16x3', '--size', '8x8',
            '--rounds', '2', '--device', 'cpu']
runpy.run_path({str(ROOT / 'tools/benchmark.py')!r}, run_name='__main__')
"""


@pytest.mark.parametrize(
    ('code', 'expected'),
    [(MODEL, 'ran'), (BENCHMARK, 'KernelWarehouse')],
    ids=['model', 'benchmark'],
)
def test_torch_mmengine_and_mmcv_lite_are_enough(code, expected):
    done = subprocess.run(
        [sys.executable, '-c', WITHOUT_THE_REST + code],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert expected in done.stdout


@pytest.mark.parametrize(
    ('floor', 'below'),
    [
        ('layers', {'errors'}),
        ('families', {'errors', 'layers'}),
        ('peers', {'errors', 'layers', 'families'}),
        ('adoption', {'checkpoint', 'errors', 'layers', 'families'}),
    ],
)
def test_a_floor_imports_from_below_alone(floor, below):
    found = set()
    for path in (ROOT / 'mmkdna' / floor).glob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                found.add(node.module)
            elif isinstance(node, ast.ImportFrom) and node.level == 2:
                found.add('mmkdna.' + node.module)
    stack = ('torch', 'mmengine', 'mmcv.cnn')
    foreign = {
        name
        for name in found
        if name.split('.')[0] not in sys.stdlib_module_names
        and not f'{name}.'.startswith(tuple(f'{s}.' for s in stack))
    }
    assert {name.split('.')[1] for name in foreign} <= below
    assert all(name.startswith('mmkdna.') for name in foreign)
    assert any(name.startswith('torch') for name in found)
