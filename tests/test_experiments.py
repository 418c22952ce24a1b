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
import from_scratch
import networks
from results import Results

RECIPE = dict(epochs=1, lr=0.2)


@pytest.mark.parametrize(
    ('name', 'count'),
    [
        ('plain', 701_466),
        ('narrow', 537_512),
        ('kernel_dna', 519_269),
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


def test_a_low_rank_part_starts_nearer_to_the_plain_kernels(plain):
    def off(name):
        net = adoption.start(copy.deepcopy(plain), adoption.WAYS[name])
        return [
            float((child.kernel() - plain.get_submodule(name).weight).norm())
            for family in mmkdna.list_families(net)
            for name, child in family.children
        ]

    ranks = zip(off('shared'), off('rank10'), off('rank24'), strict=True)
    for none, low, high in ranks:
        assert high < low < none


def test_a_kernel_cut_alone_is_the_product_of_its_svd(plain):
    way = adoption.WAYS['alone']
    net = adoption.start(copy.deepcopy(plain), way)
    for family in mmkdna.list_families(net):
        for name, child in family.children:
            own = plain.get_submodule(name).weight.detach().flatten(1)
            found = child.kernel().detach().flatten(1)
            assert torch.linalg.matrix_rank(found) == way.rank
            values = torch.linalg.svdvals(own)
            off = torch.linalg.matrix_norm(own - found)
            torch.testing.assert_close(off, values[way.rank :].norm())


def test_a_teacher_that_is_the_network_adds_nothing(plain):
    recipe = adoption.Recipe(epochs=1, lr=0.05)
    loss = adoption.taught(copy.deepcopy(plain), recipe)
    x, y = torch.randn(4, 3, 32, 32), torch.arange(4)
    alone = adoption.cifar.cross_entropy(recipe)
    torch.testing.assert_close(loss(plain, x, y), alone(plain, x, y))
    net = adoption.start(copy.deepcopy(plain), adoption.WAYS['alone']).train()
    loss(net, x, y).backward()
    assert all(
        p.grad.isfinite().all() for p in net.parameters() if p.requires_grad
    )


def test_runs_that_are_not_there_are_named(tmp_path):
    main = runpy.run_path(str(ROOT / 'experiments/digits_table.py'))['main']
    with pytest.raises(FileNotFoundError, match='make digits'):
        main([str(tmp_path)])
    (tmp_path / 'plain_r18').mkdir()
    with pytest.raises(FileNotFoundError, match='kdna_r18 holds no finished'):
        main([str(tmp_path)])
