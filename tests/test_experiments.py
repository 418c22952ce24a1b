"""experiments/: the networks' sizes, and folders of results."""

import copy
import runpy
import sys

import pytest
import torch
from helpers import ROOT

import mmkdna
from mmkdna.errors import BadInput
from mmkdna.measure.complexity import parameters

sys.path.insert(0, str(ROOT / 'experiments'))

import adoption
import fill_docs
import from_scratch
import networks
import results
from results import Results

RECIPE = dict(epochs=1, lr=0.2)


@pytest.mark.parametrize(
    ('name', 'count'),
    [
        ('plain', 701_466),
        ('narrow', 537_512),
        ('kernel_dna', 519_269),
        ('kernel_dna_late', 527_884),
        ('kernel_dna_wide', 667_450),
        ('kernel_dna_rank', 537_189),
        ('kernel_dna_deep', 715_095),
        ('plain_deep', 1_070_874),
    ],
)
def test_the_networks_have_the_sizes_that_are_compared(name, count):
    assert parameters(from_scratch.SUBJECTS[name].build()) == count


@pytest.mark.parametrize('name', ['gates', 'kernel_dna_rank'])
def test_gates_and_rank_change_nothing_at_the_start(name):
    torch.manual_seed(0)
    net = from_scratch.SUBJECTS[name].build().eval()
    other = dict(gates='plain', kernel_dna_rank='kernel_dna')[name]
    without = from_scratch.SUBJECTS[other].build().eval()
    without.load_state_dict(
        {
            k: v
            for k, v in net.state_dict().items()
            if k in without.state_dict()
        }
    )
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(net(x), without(x))


def test_a_network_three_times_as_slow_gets_a_third_of_the_steps(monkeypatch):
    # One of the rounds is disturbed.
    seconds = iter([3.0, 1.0, 9.0, 1.0, 6.0, 2.0])
    monkeypatch.setattr(
        from_scratch.cifar, 'train', lambda *args, **kwargs: next(seconds)
    )
    recipe = from_scratch.Recipe(epochs=12, lr=0.2)
    build = from_scratch.SUBJECTS['odconv_time'].build
    steps = from_scratch.steps_in_plains_time(build, recipe, images=None)
    assert steps == recipe.steps / 3


def test_what_has_run_is_not_run_again(tmp_path):
    ran = []

    def once(name, seed):
        ran.append((name, seed))
        return dict(accuracy=1.0)

    cells = [('plain', 0), ('plain', 1)]
    assert Results(tmp_path, RECIPE).run_all(cells[:1], once)
    assert Results(tmp_path, RECIPE).run_all(cells, once)
    assert ran == cells


def test_results_of_another_recipe_are_refused(tmp_path):
    Results(tmp_path, RECIPE).add('plain', 0, accuracy=1.0)
    with pytest.raises(BadInput, match=r'lr=0\.2, expected 0\.1'):
        Results(tmp_path, {**RECIPE, 'lr': 0.1})


@pytest.fixture
def plain():
    torch.manual_seed(0)
    return networks.resnet20().eval()


BASE = adoption.BASES['resnet20']


def made(plain, way, **changes):
    return adoption.start(plain, adoption.WAYS[way]._replace(**changes), BASE)


def test_a_low_rank_part_starts_nearer_to_the_plain_kernels(plain):
    def off(rank):
        net = made(plain, 'rank_taught', rank=rank)
        return [
            float(
                (child.kernel() - plain.get_submodule(name).weight)
                .norm()
                .detach()
            )
            for family in mmkdna.list_families(net)
            for name, child in family.children
        ]

    for low, high in zip(off(10), off(24), strict=True):
        assert high < low


def test_a_parent_starts_as_the_mean_of_its_family(plain):
    net = made(plain, 'averaged25_taught')
    for family in mmkdna.list_families(net):
        own = [plain.get_submodule(name).weight for name, _ in family.members]
        torch.testing.assert_close(
            family.parent.module.weight, sum(own) / len(own)
        )


def test_a_planned_network_is_as_small_as_by_the_rule(plain):
    torch.manual_seed(0)
    some = adoption.cifar.Split(
        torch.randint(0, 256, (128, 32, 32, 3), dtype=torch.uint8),
        torch.randint(0, 10, (128,)),
    )
    way = adoption.WAYS['planned25_taught']
    net = adoption.start(plain, way, BASE, some)
    assert parameters(net) < 1.01 * parameters(made(plain, 'shared25'))


@pytest.mark.parametrize('size', [15, 25, 40])
def test_controls_have_the_size_of_sharing(plain, size):
    count = parameters(made(plain, f'shared{size}_taught'))
    assert abs(count / parameters(plain) - (1 - size / 100)) < 0.02
    low = parameters(made(plain, f'low_rank{size}_taught'))
    assert abs(low / count - 1) < 0.02
    # A width is a whole number.
    narrow = parameters(made(plain, f'narrowed{size}'))
    assert abs(narrow / count - 1) < 0.08


def test_kernels_of_the_whole_rank_compute_the_same(plain):
    x = torch.randn(2, 3, 32, 32)
    whole = networks.low_rank(plain, 100).eval()
    torch.testing.assert_close(whole(x), plain(x), rtol=1e-4, atol=1e-4)
    half = networks.low_rank(plain, 50)
    to, back = half.layer3[0].conv2
    assert (to.out_channels, back.in_channels) == (32, 32)
    own = plain.layer3[0].conv2.weight.detach().flatten(1)
    off = own - (back.weight.flatten(1) @ to.weight.flatten(1)).detach()
    torch.testing.assert_close(
        torch.linalg.matrix_norm(off), torch.linalg.svdvals(own)[32:].norm()
    )


def test_plain_stays_as_it_is(plain):
    before = copy.deepcopy(plain.state_dict())
    for way in ('shared25', 'low_rank25', 'narrowed25', 'rank_taught'):
        made(plain, way)
    after = plain.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert not mmkdna.list_families(plain)


def test_pruning_names_the_library_it_needs(plain, monkeypatch):
    monkeypatch.setitem(sys.modules, 'torch_pruning', None)
    with pytest.raises(BadInput, match='pip install torch-pruning'):
        made(plain, 'pruned25_taught')


def test_a_teacher_that_is_the_network_adds_nothing(plain):
    recipe = adoption.Recipe(epochs=1, lr=0.05)
    loss = adoption.taught(copy.deepcopy(plain), recipe)
    x, y = torch.randn(4, 3, 32, 32), torch.arange(4)
    alone = adoption.cifar.cross_entropy(recipe)
    torch.testing.assert_close(loss(plain, x, y), alone(plain, x, y))
    net = made(plain, 'rank_taught').train()
    loss(net, x, y).backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())


def test_runs_that_are_not_there_are_named(tmp_path):
    main = runpy.run_path(str(ROOT / 'experiments/digits_table.py'))['main']
    with pytest.raises(FileNotFoundError, match='make digits'):
        main([str(tmp_path)])
    (tmp_path / 'plain_r18').mkdir()
    with pytest.raises(FileNotFoundError, match='kdna_r18 holds no finished'):
        main([str(tmp_path)])


@pytest.mark.parametrize('name', fill_docs.TABLES)
def test_the_tables_of_the_docs_are_what_is_printed(name, monkeypatch):
    # The picture is drawn beside the results.
    monkeypatch.setattr(results, 'draw', lambda *args: None)
    shown = fill_docs.TABLES[name]
    found = fill_docs.printed(shown)
    # Without the line below the titles.
    assert len(found) - 1 > 4
    page = (ROOT / 'docs' / shown.page).read_text()
    assert page == fill_docs.filled(page, name, found)


def test_a_page_keeps_what_is_around_its_table():
    page = 'a\n<!-- X -->\nold\n<!-- end of X -->\n\nb | c\n'
    assert fill_docs.filled(page, 'X', ['| 1 |', '| 2 |']) == (
        'a\n<!-- X -->\n| 1 |\n| 2 |\n<!-- end of X -->\n\nb | c\n'
    )
    with pytest.raises(BadInput, match='expected <!-- Y --> and'):
        fill_docs.filled(page, 'Y', [])


def test_the_ways_to_start_are_printed(capsys):
    runpy.run_path(
        str(ROOT / 'experiments/adoption_start.py'), run_name='__main__'
    )
    out = capsys.readouterr().out
    # As in docs/pretrained.md.
    assert 'cifar   once+teacher  end   n=3  83.86 +- 0.25' in out
    assert 'digits  once          mask  n=3  68.73 +- 0.47' in out
