"""Checkpoints that an interrupted run goes on from, exactly."""

import os.path as osp
import random
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.fileio.io import backend_instances
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmengine.runner.utils import set_random_seed

from ..files import write_bytes, write_text

_WHOLE = 'WholeFiles'


class WholeFiles(LocalBackend):
    """mmengine's files on this machine, each complete or absent."""

    def put(self, obj: bytes, filepath: Any) -> None:
        """Write bytes beside the path, and move them there."""
        write_bytes(obj, filepath)

    def put_text(
        self, obj: str, filepath: Any, encoding: str = 'utf-8'
    ) -> None:
        """Write text beside the path, and move it there."""
        write_bytes(obj.encode(encoding), filepath)


register_backend(_WHOLE, WholeFiles, force=True)


@HOOKS.register_module(force=True)
class ResumableCheckpointHook(CheckpointHook):
    """mmengine's checkpoints, for machines that fail.

    - A checkpoint is complete or absent. ``max_keep_ckpts`` and ``save_best``
      remove an older one only when the next one is there, so one is there at
      any time.
    - Where a run may be resumed, its random numbers are seeded again, from
      its seed and iteration. So a resumed run computes what the uninterrupted
      one does, on a CPU bit for bit. It needs ``randomness=dict(seed=N)``; a
      run by epochs ``persistent_workers=False``, a run by iterations
      ``num_workers=0`` and an ``InfiniteSampler``.
    - A run that was interrupted in its last validation is validated again.

    ``tools/train.py`` takes it for every ``CheckpointHook``.

    Args:
        **kwargs: Those of mmengine's ``CheckpointHook``. With a
            ``backend_args`` for another storage, a file is complete if that
            storage sees to it.
    """

    keep_ckpt_ids: deque
    file_backend: Any

    def __init__(self, **kwargs: Any) -> None:
        remote = '://' in str(kwargs.get('out_dir'))
        if not remote and kwargs.get('file_client_args') is None:
            kwargs['backend_args'] = kwargs.get('backend_args') or dict(
                backend=_WHOLE
            )
        super().__init__(**kwargs)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Drop the text that a resumed run would execute as a config."""
        meta = checkpoint.get('meta')
        if isinstance(meta, dict):
            meta.pop('config', None)

    def before_train(self, runner: Runner) -> None:
        """Prepare, and note where the run begins."""
        super().before_train(runner)
        self._begun = runner.iter

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed what an epoch, or a run by iterations, begins with."""
        _seed(runner, runner.iter)
        loop = runner.train_loop
        batches = getattr(loop, 'dataloader_iterator', None)
        if batches is not None and not hasattr(batches, 'skip_iter'):
            # An older loop loads what it has trained on, and that draws.
            loop.dataloader_iterator = _seeded_after(batches, runner)

    def after_val(self, runner: Runner) -> None:
        """Seed after a validation, which a resumed run does not have."""
        _seed(runner, runner.iter)

    def after_train(self, runner: Runner) -> None:
        """Validate a run that was complete when it was resumed."""
        super().after_train(runner)
        if runner.iter == self._begun and runner.val_loop is not None:
            runner.val_loop.run()

    def _save_best_checkpoint(
        self, runner: Runner, metrics: dict[str, Any]
    ) -> None:
        # mmengine's removes the previous best before it writes the next one.
        backend, later = self.file_backend, _RemovesLater(self.file_backend)
        self.file_backend = later
        try:
            super()._save_best_checkpoint(runner, metrics)
        finally:
            self.file_backend = backend
        bests = {
            getattr(self, 'best_ckpt_path', None),
            *getattr(self, 'best_ckpt_path_dict', {}).values(),
        }
        for remove, path in later.asked:
            if path not in bests:
                remove(path)

    def _save_checkpoint_with_step(
        self, runner: Runner, step: int, meta: dict
    ) -> None:
        # As mmengine's, which removes first and writes then.
        most, kept = self.max_keep_ckpts, []
        if most > 0:
            kept = [n for n in self.keep_ckpt_ids if n != step] + [step]
            # A resumed run removes those that this one does not come to.
            runner.message_hub.update_info('keep_ckpt_ids', kept)
            self.keep_ckpt_ids = deque(kept, most)
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if is_main_process():
            latest = osp.join(runner.work_dir, 'last_checkpoint')
            write_text(self.last_ckpt, latest)
            for number in kept[:-most]:
                self._remove(self.filename_tmpl.format(number))
        _seed(runner, meta['iter'])

    def _remove(self, name: str) -> None:
        path = self.file_backend.join_path(self.out_dir, name)
        if self.file_backend.isfile(path):
            self.file_backend.remove(path)
        elif self.file_backend.isdir(path):
            # deepspeed's are folders.
            self.file_backend.rmtree(path)


class _RemovesLater:
    """A storage that notes what it is asked to remove, and does the rest."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self.asked: list[tuple[Callable[[str], None], str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def remove(self, path: str) -> None:
        self.asked.append((self._backend.remove, path))

    def rmtree(self, path: str) -> None:
        self.asked.append((self._backend.rmtree, path))


def _seeded_after(batches: Iterator, runner: Runner) -> Iterator:
    """Seed once more between the batches of before and the first new one."""
    begun = runner.iter
    yield from islice(batches, begun)
    _seed(runner, begun)
    yield from batches


def write_whole() -> None:
    """From here on what mmengine writes in this process is whole.

    Each file that it writes is complete or absent, and every CheckpointHook
    of a config is a :class:`ResumableCheckpointHook`.
    """
    register_backend('local', WholeFiles, force=True, prefixes='')
    # It would go on with the instances that it has.
    backend_instances.clear()
    HOOKS.register_module(
        'CheckpointHook', force=True, module=ResumableCheckpointHook
    )


def _seed(runner: Runner, iteration: int) -> None:
    """Make random numbers depend on a run's seed and the iteration alone."""
    seed = random.Random(f'{runner.seed} {iteration}').getrandbits(31)
    set_random_seed(seed)
    # A loader that begins anew draws from it, not from the numbers above.
    generator = torch.Generator().manual_seed(seed)
    runner.train_dataloader.generator = generator
