"""When families form: as soon as the module with the settings is built."""

import copy
import importlib
import sys
import threading

import pytest
import torch
from mmcv.cnn import ConvModule, build_conv_layer
from mmengine.registry import HOOKS, MODELS, Registry
from torch import nn

import mmkdna
from mmkdna.errors import BadInput
from mmkdna.layers import KernelDNAConv2d
from mmkdna.openmmlab import install

CONV_CFG = dict(type='KernelDNA', min_channels=16)
STAGES = dict(type='Stages', depths=[2], conv_cfg=CONV_CFG)


def count(model):
    return len(mmkdna.list_families(model))


def convs(number):
    return nn.Sequential(
        *(build_conv_layer(CONV_CFG, 16, 16, 3) for _ in range(number))
    )


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


def test_forming_twice_changes_nothing(build):
    model = build(5, family_size=[2])
    state = {k: id(v) for k, v in model.state_dict(keep_vars=True).items()}
    first = mmkdna.list_families(model)
    assert mmkdna.form_families(model) == first
    after = {k: id(v) for k, v in model.state_dict(keep_vars=True).items()}
    assert after == state


def test_what_is_formed_stays_when_more_is_built_around(build):
    part = build(3)
    before = mmkdna.list_families(part)
    model = nn.Sequential(part, build(3))
    mmkdna.form_families(model)
    assert mmkdna.list_families(part) == before
    assert count(model) == 2


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


def test_a_layer_becomes_a_member_in_place():
    """Its aliases, hooks and attributes stay."""
    model = nn.Module()
    model.convs = convs(3)
    before = list(model.convs)
    model.first, model.again = before[0], nn.ModuleList(before[1:])
    seen = []
    before[1].register_forward_hook(lambda layer, *_: seen.append(layer))
    before[2].register_forward_pre_hook(lambda layer, _: seen.append(layer))
    before[1].note = ['mine']
    mmkdna.form_families(model)
    assert type(model.first) is nn.Conv2d
    assert [type(layer) for layer in model.again] == [KernelDNAConv2d] * 2
    assert list(map(id, model.convs)) == list(map(id, before))
    assert model.again[0] is before[1]
    assert before[1].note == ['mine']
    model.convs(torch.randn(2, 16, 9, 9))
    assert list(map(id, seen)) == list(map(id, before[1:]))


def test_an_adapter_takes_after_the_kernel_it_replaces():
    model = convs(2).eval().half().requires_grad_(False)
    mmkdna.form_families(model)
    adapter = model[0].adapter
    assert not adapter.training
    for parameter in adapter.parameters():
        assert parameter.dtype is torch.float16
        assert not parameter.requires_grad


def test_each_part_stays_in_the_mode_that_it_is_in():
    model = nn.ModuleDict(dict(norm=nn.BatchNorm2d(16).eval(), convs=convs(2)))
    mmkdna.form_families(model)
    assert count(model) == 1
    assert not model.norm.training
    assert all(module.training for module in model.convs.modules())


@pytest.mark.parametrize('family_size', [2, None])
def test_what_a_stage_freezes_in_train_is_no_family_with_the_rest(
    family_size,
):
    """VGG is one nn.Sequential, and freezes in train()."""
    import mmpretrain.models  # noqa: F401

    conv_cfg = dict(type='KernelDNA', family_size=family_size)
    model = MODELS.build(
        dict(
            type='mmpretrain.VGG',
            depth=16,
            norm_cfg=dict(type='BN'),
            frozen_stages=4,
            norm_eval=True,
            out_indices=(3, 4),
            conv_cfg=conv_cfg,
        )
    )
    assert {'features.11.conv', 'features.15.conv'} < {
        name for f in mmkdna.list_families(model) for name, _ in f.members
    }
    model.train()
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        before = model(x)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.05)
    for _ in range(5):
        optimizer.zero_grad()
        model(x)[1].square().mean().backward()
        optimizer.step()
    with torch.no_grad():
        after = model(x)
    assert torch.equal(after[0], before[0])
    assert not torch.equal(after[1], before[1])
    for family in mmkdna.list_families(model):
        assert len({layer.is_trained for _, layer in family.members}) == 1


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
