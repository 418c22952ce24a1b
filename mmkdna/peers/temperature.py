"""The hook that anneals the temperature of an attention."""

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..errors import check_int
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
        BadInput: If an argument is out of its range.
    """

    priority = 'ABOVE_NORMAL'

    def __init__(self, epochs: int = 10, iters: int | None = None) -> None:
        check_int('TemperatureHook: epochs', epochs, 1)
        if iters is not None:
            check_int('TemperatureHook: iters', iters, 1)
        self.epochs, self.iters = epochs, iters

    def before_train(self, runner: Runner) -> None:
        """Find out how long it takes."""
        self._layers = [
            (layer, layer.temperatures)
            for layer in runner.model.modules()
            if isinstance(layer, DynamicConv2d) and layer.temperatures
        ]
        if not self._layers:
            runner.logger.warning(
                'TemperatureHook: no layer of the model has a temperature'
            )
        self._length = self.iters or self.epochs * len(runner.train_dataloader)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None
    ) -> None:
        """Set the temperatures of this iteration."""
        progress = runner.iter / self._length
        if progress <= 1:
            for layer, (first, last) in self._layers:
                layer.temperature.fill_(first + progress * (last - first))
