"""The hook that anneals the temperature of an attention."""

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn

from ..errors import check_int
from .base import DynamicConv2d


def annealed(model: nn.Module) -> list[DynamicConv2d]:
    """The layers of a model that have a temperature."""
    return [
        layer
        for layer in model.modules()
        if isinstance(layer, DynamicConv2d) and layer.temperatures
    ]


def set_temperatures(layers: list[DynamicConv2d], progress: float) -> None:
    """Set temperatures to where they are after this part of the way."""
    for layer in layers if progress <= 1 else ():
        first, last = layer.temperatures or (0, 0)
        layer.temperature.fill_(first + progress * (last - first))


@HOOKS.register_module(force=True)
class TemperatureHook(Hook):
    """Anneal the temperatures of dynamic convolutions.

    Each falls linearly from the first to the last of its ``temperatures``:
    30 to 1 for DyConv and ODConv, 1 to 0 for KernelWarehouse. It depends
    only on the iteration, so a resumed run continues correctly.

    Args:
        epochs: Length of the annealing; the published 10 by default.
        iters: Its length in iterations; it replaces ``epochs``.

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
        """Collect the layers, and compute the length in iterations."""
        self._layers = annealed(runner.model)
        if not self._layers:
            runner.logger.warning(
                'TemperatureHook: no layer of the model has a temperature'
            )
        self._length = self.iters or self.epochs * len(runner.train_dataloader)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None
    ) -> None:
        """Set the temperatures of this iteration."""
        set_temperatures(self._layers, runner.iter / self._length)
