"""A model with KernelDNA runs where only torch, mmengine, mmcv-lite are."""

import ast
import subprocess
import sys

import pytest
from helpers import ROOT

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
import mmkdna.layers, mmkdna.families, mmkdna.openmmlab
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


IMPORTS = """
import sys
import mmcv.cnn, mmengine.runner
before = {*sys.modules}
import mmkdna
print({name.split('.')[0] for name in {*sys.modules} - before})
"""


def test_an_import_loads_nothing_that_mmengine_and_mmcv_do_not():
    done = subprocess.run(
        [sys.executable, '-c', IMPORTS],
        capture_output=True,
        text=True,
        check=True,
    )
    found = ast.literal_eval(done.stdout.splitlines()[-1])
    # No requests, rich, yaml, matplotlib, mmdet, pycocotools, ...
    assert found <= {'mmkdna', 'torch'}


GROUND = {'errors', 'files', 'version'}
FORMED = GROUND | {'layers', 'families'}
BELOW = {
    'errors': set(),
    'version': set(),
    'files': {'errors'},
    'checkpoint': GROUND | {'layers'},
    'datasets': GROUND,
    'layers': GROUND,
    'families': GROUND | {'layers'},
    'report': FORMED,
    'sharding': FORMED,
    'openmmlab': FORMED | {'report'},
    'backbones': FORMED | {'openmmlab'},
    'peers': FORMED,
    'adoption': FORMED | {'checkpoint', 'openmmlab'},
    'deploy': FORMED | {'checkpoint', 'adoption'},
    'measure': FORMED
    | {'adoption', 'checkpoint', 'deploy', 'openmmlab', 'peers', 'report'},
    'zoo': FORMED | {'checkpoint', 'adoption', 'measure'},
    'health': FORMED | {'measure'},
}
"""What each part of the package may import."""
STACK = ('torch', 'mmengine', 'mmcv.cnn')


def imports(part):
    """What a part imports, its own modules left out."""
    found = set()
    for path in (ROOT / 'mmkdna').rglob('*.py'):
        inside = path.relative_to(ROOT / 'mmkdna').with_suffix('').parts
        # A command line is above all, like those of tools/.
        if inside[0] != part or inside[-1] == '__main__':
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = (alias.name for alias in node.names)
                found |= {
                    f'{n}.__init__' if n == 'mmkdna' else n for n in names
                }
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                found.add(node.module)
            elif isinstance(node, ast.ImportFrom):
                around = ('mmkdna', *inside)[: -node.level]
                # Of the package itself: its __init__, above all.
                name = node.module or ('' if len(around) > 1 else '__init__')
                found.add('.'.join([*around, *([name] if name else [])]))
    own = f'mmkdna.{part}'
    return {n for n in found if n != own and not n.startswith(f'{own}.')}


def test_every_part_of_the_package_has_its_floor():
    parts = {p.stem for p in (ROOT / 'mmkdna').iterdir()}
    assert {p for p in parts if p[0] not in '._'} <= {*BELOW, 'cli', 'py'}


@pytest.mark.parametrize('part', BELOW)
def test_no_import_runs_upwards(part):
    ours = {n.split('.')[1] for n in imports(part) if n.startswith('mmkdna.')}
    assert ours <= BELOW[part]


@pytest.mark.parametrize(
    'part', ['layers', 'families', 'openmmlab', 'peers', 'adoption']
)
def test_a_model_runs_on_torch_mmengine_and_mmcv_cnn_alone(part):
    foreign = {
        name
        for name in imports(part)
        if name.split('.')[0] not in {*sys.stdlib_module_names, 'mmkdna'}
        and not f'{name}.'.startswith(tuple(f'{s}.' for s in STACK))
    }
    assert not foreign
