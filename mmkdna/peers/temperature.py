"""The hook that anneals the temperature of an attention."""

from collections.abc import Iterable

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..errors import is_int
from .base import DynamicConv2d


@HOOKS.register_module(force=True)
class TemperatureHook(Hook):
    """Move the temperatures of dynamic convolutions to their last value.

    A straight line from the first to the last of a layer's ``temperatures``:
    30 to 1 for DyConv and ODConv, 1 to 0 for KernelWarehouse. It depends on
    the iteration alone, so a resumed run goes on where it was.

    Args:
        epochs: It takes this many, the published 10 by default.
        iters: Or this many iterations.

    Raises:
        ValueError: If an argument is out of its range.
    """

    priority = 'ABOVE_NORMAL'

    def __init__(self, epochs: int = 10, iters: int | None = None) -> None:
        for name, value in (('epochs', epochs), ('iters', iters)):
            if value is not None and not is_int(value, 1):
                raise ValueError(
                    f'TemperatureHook: {name}={value!r}: expected an int of '
                    'at least 1'
                )
        self.epochs, self.iters = epochs, iters

    def before_train(self, runner: Runner) -> None:
        """Find out how long it takes."""
        model = runner.model
        if is_model_wrapper(model):
            model = model.module
        self._layers = [
            layer
            for layer in model.modules()
            if isinstance(layer, DynamicConv2d)
            and layer.temperatures is not None
        ]
        if not self._layers and is_main_process():
            runner.logger.warning(
                'TemperatureHook: no layer of the model has a temperature'
            )
        self._length = self.iters or self.epochs * len(runner.train_dataloader)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None
    ) -> None:
        """Set the temperatures of this iteration."""
        if runner.iter <= self._length:
            set_temperature(self._layers, runner.iter / self._length)


def set_temperature(layers: Iterable[DynamicConv2d], progress: float) -> None:
    """Set temperatures to a fraction of the way, 0 the first, 1 the last."""
    for layer in layers:
        assert layer.temperatures is not None
        first, last = layer.temperatures
        layer.temperature.fill_(first + progress * (last - first))
