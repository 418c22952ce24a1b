"""When families form: as soon as the module with the settings is built."""

import copy
import subprocess
import sys
import threading

import pytest
from helpers import CONV_CFG, ROOT, count
from mmengine.registry import MODELS, Registry
from torch import nn

import mmkdna
from mmkdna.errors import BadInput
from mmkdna.openmmlab import install

STAGES = dict(type='Stages', depths=[2], conv_cfg=CONV_CFG)


def register(cls):
    return MODELS.register_module(force=True, module=cls)


@register
class BuildsItsBlocks(nn.Module):
    """A stage whose blocks are built one by one through a registry."""

    def __init__(self):
        super().__init__()
        block = dict(
            type='ConvModule',
            in_channels=16,
            out_channels=16,
            kernel_size=3,
            conv_cfg=CONV_CFG,
        )
        self.blocks = nn.Sequential(*(MODELS.build(block) for _ in '123'))
        self.seen_while_built = count(self)


def test_families_form_when_the_module_that_holds_them_is_built():
    model = MODELS.build(dict(type='BuildsItsBlocks'))
    assert model.seen_while_built == 0
    assert [str(f) for f in mmkdna.list_families(model)] == [
        'blocks.1.conv <- blocks.2.conv'
    ]


def test_a_constructor_finds_the_families_of_what_it_builds():
    @register
    class Copies(nn.Module):
        def __init__(self):
            super().__init__()
            self.online = MODELS.build(STAGES)
            self.seen_while_built = count(self.online)
            self.momentum = copy.deepcopy(self.online)

    model = MODELS.build(dict(type='Copies'))
    assert model.seen_while_built == 1
    assert [str(f).split('.')[0] for f in mmkdna.list_families(model)] == [
        'online',
        'momentum',
    ]
    online = {id(t) for t in model.online.state_dict(keep_vars=True).values()}
    parent = mmkdna.list_families(model)[1].parent.module
    assert id(parent.weight) not in online


def test_a_build_of_another_registry_around_makes_no_difference():
    runners = Registry('runner of this test')

    @runners.register_module()
    class Runner:
        def __init__(self):
            self.model = MODELS.build(STAGES)
            self.families_when_built = count(self.model)

    assert runners.build(dict(type='Runner')).families_when_built == 1


def test_parts_of_an_object_that_is_no_module_form_theirs():
    @register
    class Pipeline:
        def __init__(self):
            self.models = [MODELS.build(STAGES), MODELS.build(STAGES)]

    built = MODELS.build(dict(type='Pipeline'))
    assert [count(model) for model in built.models] == [1, 1]


def test_a_hidden_teacher_forms_its_families_and_is_reported(log):
    @register
    class Distiller(nn.Module):
        def __init__(self):
            super().__init__()
            self.student = MODELS.build(STAGES)
            self.hidden = [MODELS.build({**STAGES, 'depths': [3]})]

    model = MODELS.build(dict(type='Distiller'))
    assert count(model.student) == 1
    assert count(model.hidden[0]) == 1
    assert len([m for m in log.messages if '1 families' in m]) == 2


def test_one_build_is_reported_once(log):
    @register
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = MODELS.build([STAGES, STAGES])

    MODELS.build(dict(type='Twice'))
    assert [m.split(';')[0] for m in log.messages] == [
        'KernelDNA: 2 families, 2 children'
    ]


def test_registries_of_every_scope_form_families():
    from mmdet.registry import MODELS as MMDET
    from mmpretrain.registry import MODELS as MMPRETRAIN
    from mmseg.registry import MODELS as MMSEG

    late = Registry('model', parent=MODELS, scope='made_late')
    for registry in (MMDET, MMSEG, MMPRETRAIN, late):
        assert count(registry.build(STAGES)) == 1
    MODELS.children.pop('made_late')


def test_a_failed_build_leaves_nothing_behind(log):
    with pytest.raises(Exception, match='depths'):
        MODELS.build(dict(type='Stages'))
    wrong = {**CONV_CFG, 'families': [['stages.0.0', 'nowhere']]}
    with pytest.raises(BadInput, match='nowhere'):
        MODELS.build({**STAGES, 'conv_cfg': wrong})
    log.clear()
    assert count(MODELS.build(STAGES)) == 1
    assert len(log.messages) == 1


def test_a_build_that_fails_inside_may_be_caught():
    @register
    class TriesTwo(nn.Module):
        def __init__(self):
            super().__init__()
            try:
                self.stages = MODELS.build({**STAGES, 'depths': None})
            except TypeError:
                self.stages = MODELS.build(STAGES)

    assert count(MODELS.build(dict(type='TriesTwo'))) == 1


def test_threads_build_apart(log):
    built, inside = {}, threading.Barrier(2, timeout=30)

    @register
    class Waits(nn.Module):
        def __init__(self):
            super().__init__()
            inside.wait()
            self.stages = MODELS.build(STAGES)
            inside.wait()

    def work(name):
        built[name] = MODELS.build(dict(type='Waits'))

    threads = [threading.Thread(target=work, args=(n,)) for n in 'ab']
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [count(built[n]) for n in 'ab'] == [1, 1]
    assert len(log.messages) == 2


def test_two_builds_share_nothing():
    one, two = MODELS.build(STAGES), MODELS.build(STAGES)
    storages = [
        {
            tensor.untyped_storage().data_ptr()
            for tensor in model.state_dict(keep_vars=True).values()
        }
        for model in (one, two)
    ]
    assert storages[0].isdisjoint(storages[1])
    (family,) = mmkdna.list_families(two)
    assert all(layer not in set(one.modules()) for _, layer in family.members)


def test_installing_again_wraps_once():
    plain = MODELS.build_func.forms_families_after
    install()
    install()
    assert MODELS.build_func.forms_families_after is plain
    assert count(MODELS.build(STAGES)) == 1


# In a process of its own: what it registers again stays registered.
AGAIN = """
import importlib, sys
from helpers import CONV_CFG
from mmengine.registry import MODELS
import mmkdna

for name in [name for name in sys.modules if name.startswith('mmkdna')]:
    del sys.modules[name]
again = importlib.import_module('mmkdna')
assert again is not mmkdna
for _ in '12':
    model = MODELS.build(dict(type='Stages', depths=[2], conv_cfg=CONV_CFG))
    print(*again.list_families(model))
    importlib.reload(again)
"""


def test_importing_again_works():
    """As a notebook does that reloads, or a process that purged modules."""
    done = subprocess.run(
        [sys.executable, '-c', AGAIN],
        cwd=ROOT / 'tests',
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count(' <- ') == 2


@MODELS.register_module()
class LoadsInside(nn.Module):
    """As mmpretrain's TIMMBackbone with a checkpoint."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(*(nn.Conv2d(16, 16, 3) for _ in '12'))
        self._is_init = True


def test_weights_that_a_constructor_loaded_are_said_to_be_lost(log):
    MODELS.build(dict(type='LoadsInside', kernel_dna=dict(min_channels=16)))
    assert 'LoadsInside has loaded weights while it was built' in log.text
