"""A hook that watches the gates and modulations of families in training."""

import logging
from collections.abc import Iterable
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from torch import Tensor, nn

from .errors import BadInput, check, check_int
from .families import Family, list_families
from .layers.wrapped import is_sharded

EDGE = 0.05
"""A gate this near to an end of its range, as a part of it, is saturated."""


def measure(family: Family, gates: dict[str, Tensor]) -> dict[str, float]:
    """What the hook logs of a family.

    Args:
        family: Its children are measured together.
        gates: The gates of children by name, ``(N, C_in)``; may lack some.

    Returns:
        ``gate_mean``, ``gate_saturation`` and ``dead_gates``, if a child has
        a gate; ``filter_norm``, and ``spatial_norm`` if kernels are larger
        than 1 x 1.
    """
    found: dict[str, Tensor] = {}
    ran = [(m, gates[name]) for name, m in family.children if name in gates]
    if ran:
        every = torch.cat([gate.flatten() for _, gate in ran])
        # From 0, closed, to 1, the most that it can be.
        scaled = [
            gate / 2 if child.adapter.routing.identity_gate else gate
            for child, gate in ran
        ]
        flat = torch.cat([gate.flatten() for gate in scaled])
        open_most = torch.cat([gate.amax(0) for gate in scaled])
        found['gate_mean'] = every.mean()
        outside = (flat < EDGE) | (flat > 1 - EDGE)
        found['gate_saturation'] = outside.float().mean()
        found['dead_gates'] = (open_most < EDGE).float().mean()
    for half in ('filter', 'spatial'):
        static = (getattr(m.adapter.static, half) for _, m in family.children)
        norms = [p.detach().float().norm() for p in static if p is not None]
        if norms:
            found[f'{half}_norm'] = torch.stack(norms).norm()
    if not found:
        return {}
    # One copy from the device for all of them.
    return dict(
        zip(found, torch.stack([*found.values()]).tolist(), strict=True)
    )


@HOOKS.register_module(force=True)
class KernelDNAHealthHook(Hook):
    """Log the state of every family, and find what is NaN or infinite.

    The visualizer of the run gets, as ``kernel_dna/PARENT/...``, over all
    children of a family: ``gate_mean``; ``gate_saturation``, the share of
    gate values in the outer 5 % of their range; ``dead_gates``, the share of
    channels whose gate is in the lowest 5 % for all images of the batch;
    ``filter_norm`` and ``spatial_norm``, the norms of the static modulation.
    After the last iteration it gets a picture of all gates.

    In measured iterations the hook looks for NaN and infinite values in the
    parameters before the step, and in the gates; in all iterations, in the
    loss. After a step with such a loss, most parameters are NaN, too: with
    ``interval=1`` the first name is where it began.

    Args:
        interval: Iterations from one measurement to the next. The last
            iteration is always measured.
        stop: Whether a NaN or infinite value ends the run. If not, it is
            logged as an error once.

    Raises:
        BadInput: If an argument is out of its range; if FSDP shards the
            families; in a run with ``stop``, for the first NaN or infinite
            value.
    """

    def __init__(self, interval: int = 50, stop: bool = False) -> None:
        what = 'KernelDNAHealthHook: '
        check_int(f'{what}interval', interval, 1)
        check(f'{what}stop', stop, isinstance(stop, bool), 'True or False')
        self.interval, self.stop = interval, stop

    def before_train(self, runner: Any) -> None:
        """Find the families."""
        model = runner.model
        self._model = model.module if is_model_wrapper(model) else model
        self._families = list_families(self._model)
        self._handles: list[Any] = []
        self._seen: dict[str, list[Tensor]] = {}
        self._said: set[str] = set()
        for family in self._families:
            for name, child in family.children:
                filter = child.adapter.static.filter
                if is_sharded(filter, child.kernel_shape):
                    raise BadInput(
                        f'KernelDNAHealthHook: {name} is sharded, so a '
                        'process has no whole modulation to measure; leave '
                        'the hook out, or train without FSDP'
                    )
        if not self._families:
            runner.logger.warning(
                'KernelDNAHealthHook: the model has no family, so only its '
                'parameters and its loss are watched'
            )

    def before_train_iter(
        self, runner: Any, batch_idx: int, data_batch: object = None
    ) -> None:
        """Check the parameters, and start to record the gates."""
        last = self.is_last_train_iter(runner)
        if not (last or self.every_n_train_iters(runner, self.interval)):
            return
        self._say(runner, not_finite(self._model.named_parameters()))
        self._seen = {}
        for family in self._families:
            for name, child in family.children:
                hook = child.adapter.routing.register_forward_hook
                self._handles.append(hook(self._record(name)))

    def _record(self, name: str) -> Any:
        def record(module: nn.Module, args: object, gate: Tensor) -> None:
            # A layer of a head runs once for each level.
            rows = gate.detach().float().reshape(-1, gate.shape[-1])
            self._seen.setdefault(name, []).append(rows)

        return record

    def after_train_iter(
        self,
        runner: Any,
        batch_idx: int,
        data_batch: object = None,
        outputs: dict | None = None,
    ) -> None:
        """Log the families; check the gates and the loss."""
        measured, self._handles = self._handles, []
        for handle in measured:
            handle.remove()
        gates: dict[str, Tensor] = {}
        if measured:
            gates = {n: torch.cat(rows) for n, rows in self._seen.items()}
            self._log(runner, gates)
        values = [
            (f'the gate of {name}', gate) for name, gate in gates.items()
        ]
        loss = (outputs or {}).get('loss')
        if isinstance(loss, Tensor):
            values.append(('the loss', loss))
        self._say(runner, not_finite(values))

    def _log(self, runner: Any, gates: dict[str, Tensor]) -> None:
        step = runner.iter + 1
        scalars = {
            f'kernel_dna/{family.parent.name}/{key}': value
            for family in self._families
            for key, value in measure(family, gates).items()
        }
        runner.visualizer.add_scalars(scalars, step)
        if gates and self.is_last_train_iter(runner):
            # Only here: it needs matplotlib.
            from .measure.gates import draw_gates

            picture = draw_gates(self._families, gates, step)
            runner.visualizer.add_image('kernel_dna_gates', picture, step)

    def _say(self, runner: Any, names: list[str]) -> None:
        new = [name for name in names if name not in self._said]
        self._said.update(new)
        if not new:
            return
        more = f' and {len(new) - 3} more' if len(new) > 3 else ''
        message = (
            f'iteration {runner.iter + 1}: NaN or infinite values in '
            f'{", ".join(new[:3])}{more}. Resume from an earlier checkpoint '
            'with a lower learning rate, or with clipped gradients'
        )
        if self.interval > 1:
            message += '; KernelDNAHealthHook with interval=1 tells the first'
        if self.stop:
            raise BadInput(message)
        print_log(f'KernelDNA: {message}', 'current', logging.ERROR)


def not_finite(named: Iterable[tuple[str, Tensor]]) -> list[str]:
    """The names of tensors that hold NaN or infinite values."""
    return [name for name, t in named if not t.isfinite().all()]
