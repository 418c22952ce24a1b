"""Settings on plain layers: who is marked, and with what."""

import pytest
from helpers import CONV_CFG, TakesNoConvCfg
from mmcv.cnn import build_conv_layer
from torch import nn

from mmkdna.errors import BadInput
from mmkdna.families import mark


def test_marks_that_are_there_stay():
    model = nn.Sequential(
        *(build_conv_layer(CONV_CFG, 16, 16, 3) for _ in '12'),
        *(nn.Conv2d(16, 16, 3) for _ in '12'),
    )
    mark(model, min_channels=8)
    assert [layer.kernel_dna.min_channels for layer in model] == [16, 16, 8, 8]


def test_linear_layers_are_marked_if_they_are_asked_for():
    model = TakesNoConvCfg()

    def marked():
        return [
            type(layer)
            for layer in model.modules()
            if 'kernel_dna' in vars(layer)
        ]

    mark(model)
    assert marked() == [nn.Conv2d] * 3
    mark(model, linear=True)
    assert marked() == [nn.Conv2d] * 3 + [nn.Linear] * 2


def test_a_mistake_marks_nothing():
    model = TakesNoConvCfg()
    with pytest.raises(BadInput):
        mark(model, reduction=0)
    assert not any('kernel_dna' in vars(layer) for layer in model.modules())
