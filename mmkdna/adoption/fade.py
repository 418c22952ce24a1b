"""From a plain network's function to a KernelDNA network's, in steps.

What the fit of a pretrained kernel leaves over stays with the child and
fades: ``W_c = W_p (1 + s)(1 + f) + (1 - t) * residual``, t from 0 to 1.
"""

import logging
import math
from collections.abc import Iterator
from typing import Any

from mmengine.hooks import EMAHook, Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn

from ..errors import BadInput
from ..layers import KernelDNALayer
from .teacher import FeatureTeacher

SAVED_TEACHER = 'kernel_fade_teacher'
SHAPES = ('cosine', 'linear')


def keep_residuals(model: nn.Module) -> None:
    """Have the plain weights that load next leave residuals, to fade.

    The model then starts as exactly the plain network; see :func:`set_fade`.
    """
    for _, layer in kernel_dna_layers(model):
        layer.keeps_residual = True


def set_fade(model: nn.Module, t: float) -> None:
    """Set how far the residuals of a model have faded.

    Args:
        model: A model with residuals; without, nothing happens.
        t: 0 for the plain network's kernels, 1 for the families' alone: the
            residuals are dropped for good.

    Raises:
        BadInput: If t is not in 0 to 1.
    """
    if not 0 <= t <= 1:
        raise BadInput(f't={t!r}: expected a number from 0 to 1')
    for _, layer in kernel_dna_layers(model):
        if t == 1:
            layer.drop_residual()
        elif layer.fade is not None:
            layer.fade.fill_(t)


def residual_names(model: nn.Module) -> list[str]:
    """The layers of a model that hold a residual."""
    return [
        name
        for name, layer in kernel_dna_layers(model)
        if layer.residual is not None
    ]


def kernel_dna_layers(
    model: nn.Module,
) -> Iterator[tuple[str, KernelDNALayer]]:
    for name, layer in model.named_modules():
        if isinstance(layer, KernelDNALayer):
            yield name, layer


@HOOKS.register_module(force=True)
class KernelFadeHook(Hook):
    """Start as the pretrained plain network, end as pure KernelDNA.

    Plain weights that the run loads leave residuals; they fade over a part of
    the run and are dropped at its end. Until ``teacher_end`` the plain network
    teaches the backbone the features of its shared stages, which costs each
    step a forward of the backbone. Where no plain weights are loaded, this
    does nothing. The defaults are what won in ``docs/adopt.md``.

    Args:
        begin: When the fade begins, as a fraction of the run.
        end: When it is complete.
        shape: ``'cosine'`` or ``'linear'``.
        teacher: Weight of the loss of features; 0 for no teacher.
        teacher_end: When the teacher leaves, as a fraction of the run.

    Raises:
        BadInput: If not ``0 <= begin < end <= 1``, or another argument is out
            of its range.
    """

    # Before EMAHook copies the model, and before anything uses its kernels.
    priority = 'VERY_HIGH'

    def __init__(
        self,
        begin: float = 0.0,
        end: float = 0.3,
        shape: str = 'cosine',
        teacher: float = 10.0,
        teacher_end: float = 0.8,
    ):
        if not 0 <= begin < end <= 1:
            raise BadInput(
                f'KernelFadeHook: begin={begin!r}, end={end!r}: expected '
                'fractions of the run, 0 <= begin < end <= 1'
            )
        if shape not in SHAPES:
            raise BadInput(
                f'KernelFadeHook: shape={shape!r}: expected one of '
                + ', '.join(map(repr, SHAPES))
            )
        for name, value, most in (
            ('teacher', teacher, math.inf),
            ('teacher_end', teacher_end, 1),
        ):
            if not 0 <= value <= most:
                raise BadInput(
                    f'KernelFadeHook: {name}={value!r}: expected a number '
                    f'from 0 to {most}'
                )
        self.begin = begin
        self.end = end
        self.shape = shape
        self.teacher = teacher
        self.teacher_end = teacher_end
        self._teacher: FeatureTeacher | None = None
        self._saved_teacher: dict | None = None

    def fade(self, progress: float) -> float:
        """t at a point of the run, 0 at its first step, 1 at its last."""
        t = (progress - self.begin) / (self.end - self.begin)
        t = min(max(t, 0.0), 1.0)
        # Exactly 1 at the end, where the residuals are dropped.
        return (1 - math.cos(math.pi * t)) / 2 if self.shape == 'cosine' else t

    def before_run(self, runner: Runner) -> None:
        keep_residuals(runner.model)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """A plain run that is resumed has the optimizer of a plain model."""
        self._saved_teacher = checkpoint.get(SAVED_TEACHER)
        weights = checkpoint.get('state_dict', checkpoint)
        children = [
            n for n, m in kernel_dna_layers(runner.model) if m.role == 'child'
        ]
        plain = any(
            key.endswith('.weight')
            and any(key.endswith(f'{name}.weight') for name in children)
            for key in weights
        )
        if (
            plain
            and runner._resume
            and checkpoint.pop('optimizer', None) is not None
        ):
            print_log(
                'The checkpoint is of a plain network: its weights are taken, '
                "and the optimizer starts anew, since it knows that network's "
                'parameters.',
                'current',
                logging.WARNING,
            )

    def before_train(self, runner: Runner) -> None:
        for averaged in _averaged(runner):
            self._mirror(runner.model, averaged)
        self._hire(_unwrapped(runner))

    def _hire(self, model: Any) -> None:
        """Make a teacher of the plain network that the model is, or was."""
        backbone = getattr(model, 'backbone', None)
        fades = [
            layer.fade
            for _, layer in kernel_dna_layers(backbone or nn.Identity())
            if layer.fade is not None
        ]
        is_plain = bool(fades) and not any(fades)
        if self.teacher == 0 or not (is_plain or self._saved_teacher):
            return
        assert backbone is not None
        teacher = FeatureTeacher(backbone, self._saved_teacher)
        parse_losses = model.parse_losses

        def parse_with_features(losses: dict) -> Any:
            loss = self.teacher * teacher.loss()
            return parse_losses({**losses, 'loss_features': loss})

        # Where every model of mmengine sums its losses, before their scaling.
        model.parse_losses = parse_with_features
        self._teacher = teacher

    def _dismiss(self, runner: Runner) -> None:
        if self._teacher is not None:
            self._teacher.close()
            self._teacher = None
            del _unwrapped(runner).parse_losses
            # Else the log would go on with its last value.
            runner.message_hub.log_scalars.pop('train/loss_features', None)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if self._teacher is not None:
            checkpoint[SAVED_TEACHER] = self._teacher.plain.state_dict()

    @staticmethod
    def _mirror(model: nn.Module, averaged: Any) -> None:
        """Give the averaged copy of a model the residuals that this has.

        It was made before ``init_cfg`` loaded any.
        """
        own = [layer for _, layer in kernel_dna_layers(model)]
        copies = [layer for _, layer in kernel_dna_layers(averaged.module)]
        for layer, copy in zip(own, copies, strict=True):
            if layer.residual is None:
                copy.drop_residual()
            elif copy.residual is None:
                copy.hold_residual(layer.residual.clone())
        _list_buffers(averaged)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        progress = runner.iter / max(1, runner.max_iters - 1)
        if progress >= self.teacher_end:
            self._dismiss(runner)
        if not residual_names(runner.model):
            return
        t = self.fade(progress)
        set_fade(runner.model, t)
        for averaged in _averaged(runner):
            set_fade(averaged.module, t)
            if t == 1:
                _list_buffers(averaged)
        if t == 1:
            print_log('KernelDNA: the residuals have faded.', 'current')

    def after_train(self, runner: Runner) -> None:
        self._dismiss(runner)
        left = residual_names(runner.model)
        if left:
            print_log(
                f'The run ended before the fade: {len(left)} layers still '
                'hold residuals. Train on, or drop them with '
                'tools/convert_checkpoint.py --drop-residual.',
                'current',
                logging.WARNING,
            )


def _unwrapped(runner: Runner) -> Any:
    model = runner.model
    return model.module if is_model_wrapper(model) else model


def _averaged(runner: Runner) -> list[Any]:
    """The averaged models of the run's EMA hooks."""
    return [
        hook.ema_model for hook in runner.hooks if isinstance(hook, EMAHook)
    ]


def _list_buffers(averaged: Any) -> None:
    """With ``update_buffers`` an averaged model lists what it averages."""
    if averaged.update_buffers:
        averaged.avg_parameters = averaged.module.state_dict()
