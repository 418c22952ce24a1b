"""What is measured of each type: bytes that are kept, seconds in turns."""

from functools import partial

import pytest
import torch
from helpers import ROOT, perturb_adapters
from mmengine.config import Config
from torch import nn

from mmkdna.measure.rows import equalise, interleave, saved_bytes
from mmkdna.measure.subjects import Conditions, config_subject, layer_subject


def test_what_a_forward_saves_is_counted():
    conv = nn.Conv2d(4, 4, 3, padding=1)
    x = torch.randn(2, 4, 8, 8)

    def forward():
        return conv(x).relu().relu().sum()

    # The input of the conv and the results of both ReLU; no parameter.
    assert saved_bytes(conv, forward) == 3 * x.nbytes


def test_a_child_saves_its_input_once():
    how = Conditions(2, (16, 16))
    plain, child = (
        layer_subject((32, 32, 3), conv_cfg, how)
        for conv_cfg in (None, dict(type='KernelDNA'))
    )
    base = saved_bytes(plain.model, plain.loss)
    x = 4 * 2 * 32 * 16 * 16
    assert x <= base < x + 1000
    # What is of the adapter; neither the gated input nor the derived kernel.
    assert base < saved_bytes(child.model, child.loss) < base + 10_000


def test_a_twin_gets_the_function_that_it_is_beside():
    how = Conditions(2, (64, 64))
    cfg = Config.fromfile(ROOT / 'configs/digits/kdna_maskrcnn_r18.py')
    plain = config_subject(cfg, None, how)
    ours = config_subject(cfg, dict(type='KernelDNA'), how)

    def loss(subject):
        torch.manual_seed(0)
        return subject.loss()

    assert not loss(plain).allclose(loss(ours))
    equalise(plain.model, ours.model)
    torch.testing.assert_close(loss(plain), loss(ours))
    perturb_adapters(ours.model)
    before = loss(plain)
    equalise(plain.model, ours.model)
    assert loss(plain) == before


def test_rounds_change_their_order_and_memory_may_run_out():
    order = []

    def large():
        order.append('large')
        torch.empty(1 << 60)

    runs = {name: partial(order.append, name) for name in 'ab'}
    times = interleave({**runs, 'large': large}, rounds=2)
    assert order == ['large', *'baabbaab']
    assert set(times) == {'a', 'b'}
    assert len(times['a']) == len(times['b']) == 2
    with pytest.raises(RuntimeError, match='of another kind'):
        interleave({'a': _fail}, 1)


def _fail():
    raise RuntimeError('of another kind')
