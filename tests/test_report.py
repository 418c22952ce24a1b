"""What a model's families are said to be, and to save."""

from mmengine.registry import MODELS

import mmkdna


def test_one_log_line_says_how_many_and_what_they_save(build, log):
    model = build(5, channels=64)
    (line,) = [m for m in log.messages if 'families' in m]
    plain = MODELS.build(dict(type='Stages', depths=[5], channels=64))
    ours, theirs = (
        sum(p.numel() for p in m.parameters()) for m in (model, plain)
    )
    assert '2 families, 2 children' in line
    assert f'{ours:,} parameters instead of {theirs:,}' in line
    assert f'-{1 - ours / theirs:.1%}' in line


def test_a_row_for_each_member_says_role_parent_and_parameters(build):
    model = build(3, channels=64)
    report = mmkdna.report(model)
    child, parent = report.rows
    assert (child.role, parent.role) == ('child', 'parent')
    assert (child.parent, parent.parent) == (parent.name, None)
    assert child.shape == parent.shape == (64, 64, 3, 3)
    kernel = 64 * 64 * 9
    assert parent.parameters == parent.plain_parameters == kernel
    # s, f; squeeze; LayerNorm; excite with its bias
    assert child.parameters == 9 + 64 + 64 * 16 + 32 + 16 * 64 + 64
    assert child.plain_parameters == kernel
    assert report.parameters == sum(p.numel() for p in model.parameters())
    assert report.families == tuple(mmkdna.list_families(model))


def test_a_family_lists_its_parent_first_and_then_its_children(build):
    (family,) = mmkdna.list_families(build(3, family_size=3))
    blocks = [name.split('.')[2] for name, _ in family.members]
    assert blocks == ['2', '0', '1']
    assert family.members[0] == family.parent


def test_families_of_a_part_name_the_parent_outside(build):
    model = build(2)
    (family,) = mmkdna.list_families(model.stages[0][0])
    assert family.parent.name == '(outside)'
    assert family.parent.module is model.stages[0][1].conv.conv


def test_a_model_without_families_saves_nothing():
    report = mmkdna.report(MODELS.build(dict(type='Stages', depths=[2])))
    assert (report.rows, report.families) == ((), ())
    assert report.parameters == report.plain_parameters
