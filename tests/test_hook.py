"""When families form: as the outermost build of a module returns."""

import importlib
import sys
import threading

import pytest
from mmcv.cnn import ConvModule
from mmengine.registry import HOOKS, MODELS, Registry
from torch import nn

import mmkdna
from mmkdna.families import install

CONV_CFG = dict(type='KernelDNA', min_channels=16)
STAGES = dict(type='Stages', depths=[2], conv_cfg=CONV_CFG)


def count(model):
    return len(mmkdna.list_families(model))


@MODELS.register_module(force=True)
class BuildsItsBlocks(nn.Module):
    """A stage whose blocks are built one by one through a registry."""

    def __init__(self, registry=MODELS):
        super().__init__()
        block = dict(
            type='ConvModule',
            in_channels=16,
            out_channels=16,
            kernel_size=3,
            conv_cfg=CONV_CFG,
        )
        self.blocks = nn.Sequential(*(registry.build(block) for _ in '123'))
        self.seen_while_built = count(self)


def test_families_form_when_the_outermost_build_returns():
    model = MODELS.build(dict(type='BuildsItsBlocks'))
    assert model.seen_while_built == 0
    assert [str(f) for f in mmkdna.list_families(model)] == [
        'blocks.1.conv <- blocks.2.conv'
    ]


def test_a_build_of_another_registry_around_is_not_the_outermost():
    runners = Registry('runner of this test')

    @runners.register_module()
    class Runner:
        def __init__(self):
            self.model = MODELS.build(STAGES)
            self.families_when_built = count(self.model)

    assert runners.build(dict(type='Runner')).families_when_built == 1


def test_parts_of_an_object_that_is_no_module_form_theirs():
    @MODELS.register_module(force=True)
    class Pipeline:
        def __init__(self):
            self.models = [MODELS.build(STAGES), MODELS.build(STAGES)]

    built = MODELS.build(dict(type='Pipeline'))
    assert [count(model) for model in built.models] == [1, 1]


def test_a_hidden_teacher_forms_its_families():
    @MODELS.register_module(force=True)
    class Distiller(nn.Module):
        def __init__(self):
            super().__init__()
            self.student = MODELS.build(STAGES)
            self.hidden = [MODELS.build(STAGES)]

    model = MODELS.build(dict(type='Distiller'))
    assert count(model.student) == 1
    assert count(model.hidden[0]) == 1


def test_registries_of_every_scope_form_families():
    from mmdet.registry import MODELS as MMDET
    from mmpretrain.registry import MODELS as MMPRETRAIN
    from mmseg.registry import MODELS as MMSEG

    late = Registry('model', parent=MODELS, scope='made_late')
    for registry in (MMDET, MMSEG, MMPRETRAIN, late):
        assert count(registry.build(STAGES)) == 1
    MODELS.children.pop('made_late')


def test_a_failed_build_leaves_nothing_behind():
    with pytest.raises(Exception, match='depths'):
        MODELS.build(dict(type='Stages'))
    assert count(MODELS.build(STAGES)) == 1


def test_threads_build_apart():
    built = {}
    inside = threading.Barrier(2, timeout=30)

    @MODELS.register_module(force=True)
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


def test_installing_again_wraps_once():
    plain = MODELS.build_func.forms_families_after
    install()
    install()
    assert MODELS.build_func.forms_families_after is plain
    assert count(MODELS.build(STAGES)) == 1


def test_importing_again_works():
    """As a notebook does that reloads, or a process that purged modules."""
    ours = {k: v for k, v in sys.modules.items() if k.startswith('mmkdna')}
    registered = [(r, dict(r.module_dict)) for r in (MODELS, HOOKS)]
    try:
        for name in ours:
            del sys.modules[name]
        again = importlib.import_module('mmkdna')
        assert again is not mmkdna
        model = MODELS.build(STAGES)
        assert len(again.list_families(model)) == 1
        importlib.reload(again)
    finally:
        sys.modules.update(ours)
        for registry, modules in registered:
            registry.module_dict.update(modules)
        install()


def test_plain_pytorch_code_forms_its_own():
    model = nn.Sequential(
        *(ConvModule(16, 16, 3, conv_cfg=CONV_CFG) for _ in '12')
    )
    assert count(model) == 0
    mmkdna.form_families(model)
    assert count(model) == 1
