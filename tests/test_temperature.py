"""The temperature of an attention falls as published."""

import mmengine
import pytest
from mmcv.cnn import build_conv_layer
from mmengine.registry import HOOKS
from torch import nn

import mmkdna.peers  # noqa: F401


def test_the_temperature_falls_and_a_resumed_run_goes_on(tmp_path):
    hook = HOOKS.build(dict(type='TemperatureHook', iters=4))
    layer = build_conv_layer(dict(type='DyConv'), 8, 8, 3)

    class Runner:
        model = nn.Sequential(layer)
        train_dataloader = [0] * 3
        logger = mmengine.logging.MMLogger.get_current_instance()
        iter = 0

    assert layer.temperature == 1
    runner = Runner()
    hook.before_train(runner)
    seen = []
    for runner.iter in range(7):
        hook.before_train_iter(runner, 0)
        seen.append(layer.temperature.item())
    assert seen == [30, 22.75, 15.5, 8.25, 1, 1, 1]
    resumed = HOOKS.build(dict(type='TemperatureHook', epochs=2))
    resumed.before_train(runner)
    runner.iter = 3
    resumed.before_train_iter(runner, 0)
    assert layer.temperature == 15.5


@pytest.mark.parametrize('name', ['epochs', 'iters'])
def test_a_wrong_length_is_named(name):
    with pytest.raises(ValueError, match=f'{name}=0: expected an int'):
        HOOKS.build({'type': 'TemperatureHook', name: 0})
