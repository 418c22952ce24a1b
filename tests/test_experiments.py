"""experiments/: the networks' sizes, and a folder of results."""

import sys
from pathlib import Path

import pytest
import torch

from mmkdna.errors import BadInput
from mmkdna.measure.complexity import parameters

sys.path.insert(0, str(Path(__file__).parent.parent / 'experiments'))

import from_scratch
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
