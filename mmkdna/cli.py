"""What the command lines of `tools/` have in common."""

import argparse
import gc
import os
import os.path as osp
import pickle
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from rich.console import Console
from rich.table import Table

from .checkpoint import unsafe
from .errors import BadInput
from .files import written_beside
from .measure.complexity import input_size
from .zoo import load_tensors_only


class _Options(DictAction):
    """KEY=VALUE; a key alone is a mistake of the command line."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        for text in values:
            if '=' not in text:
                parser.error(f'{option_string} {text}: expected KEY=VALUE')
        super().__call__(parser, namespace, values, option_string)


def config_parser(
    description: str | None,
    several: bool = False,
    source: bool = False,
    optional: bool = False,
) -> argparse.ArgumentParser:
    """A parser with the config, or ``several``, and ``--cfg-options``.

    With ``source`` a checkpoint ``src`` comes before the config; with
    ``optional`` there may be none of the several.
    """
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if source:
        parser.add_argument('src', help='checkpoint file to read')
    parser.add_argument(
        'config',
        nargs=('*' if optional else '+') if several else None,
        help='config file',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=_Options,
        metavar='KEY=VALUE',
        help='override settings of the config, such as '
        'train_dataloader.batch_size=4 or key="[a,b]"',
    )
    return parser


def add_size_argument(parser: argparse.ArgumentParser) -> None:
    """Add the size of the input, see :func:`image_size`."""
    parser.add_argument(
        '--size',
        type=_height_and_width,
        metavar='HEIGHTxWIDTH',
        help='of the input, in pixels, such as 800x1088 (default: as the '
        'config tests)',
    )


def _height_and_width(text: str) -> tuple[int, int]:
    height, x, width = text.partition('x')
    if not (x and height.isdecimal() and width.isdecimal()):
        raise argparse.ArgumentTypeError(
            f'{text}: expected HEIGHTxWIDTH, such as 800x1088'
        )
    return int(height), int(width)


def image_size(args: argparse.Namespace, cfg: Config) -> tuple[int, int]:
    """What ``--size`` says, or the size that the config tests with."""
    size: tuple[int, int] = args.size or input_size(cfg)
    return size


def short_name(path: str) -> str:
    """A config's path as the tables call it."""
    return path.removeprefix('configs/').removesuffix('.py')


def add_runner_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what training and testing share: work dir and launcher."""
    parser.add_argument(
        '--work-dir',
        help='where logs, checkpoints and metrics go (default: '
        'work_dirs/NAME_OF_THE_CONFIG)',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='what started the processes of a distributed job',
    )
    # torch.distributed.launch passes this one to every process.
    parser.add_argument(
        '--local_rank',
        '--local-rank',
        type=int,
        default=0,
        help=argparse.SUPPRESS,
    )


def load_config(path: str, options: dict | None = None) -> Config:
    """Read a config, ``--cfg-options`` merged.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    if not osp.isfile(path):
        raise FileNotFoundError(
            f'config {path} does not exist; configs/ holds those of mmkdna'
        )
    cfg = Config.fromfile(path)
    if options is not None:
        cfg.merge_from_dict(options)
    return cfg


def check_checkpoint(path: str) -> None:
    """Check that a checkpoint exists, where it is a file.

    Raises:
        FileNotFoundError: If it does not.
    """
    if '://' not in path and not osp.isfile(path):
        raise FileNotFoundError(
            f'checkpoint {path} does not exist; training writes them to its '
            'work dir, whose last_checkpoint names the latest'
        )


def runner_config(args: argparse.Namespace) -> Config:
    """The config of a run, with work dir and launcher as the user said."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = load_config(args.config, args.cfg_options)
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        name = osp.splitext(osp.basename(args.config))[0]
        cfg.work_dir = osp.join('work_dirs', name)
    return cfg


def join_cpu_job(cfg: Config) -> None:
    """Let the processes of torchrun meet where there is no GPU.

    mmengine's launcher takes each process for a GPU's and fails without one;
    it leaves a process group alone that is there already.
    """
    if cfg.get('launcher') == 'pytorch' and get_device() == 'cpu':
        torch.distributed.init_process_group('gloo')
        cfg.setdefault(
            'model_wrapper_cfg',
            dict(
                type='MMDistributedDataParallel',
                device_ids=None,
                broadcast_buffers=False,
            ),
        )


def build_runner(cfg: Config) -> Runner:
    """mmengine's runner, or the one that the config names.

    What it loads and resumes from is read without running anything.
    """
    load_tensors_only()
    try:
        os.makedirs(cfg.get('work_dir', '.'), exist_ok=True)
    except OSError as error:
        raise BadInput(
            f'{cfg.work_dir} cannot be written: {error.strerror}; say another '
            'folder with --work-dir'
        ) from None
    join_cpu_job(cfg)
    if 'runner_type' in cfg:
        return RUNNERS.build(cfg)
    return Runner.from_cfg(cfg)


def exit_on_bad_input(main: Callable[[Sequence[str] | None], None]) -> None:
    """Run a tool; what the user got wrong is a sentence, not a traceback."""
    try:
        main(None)
    except (BadInput, FileNotFoundError, FileExistsError) as error:
        # One of the system's own, from inside a run, keeps its traceback.
        if getattr(error, 'errno', None) is not None:
            raise
        sys.exit(f'{osp.basename(sys.argv[0])}: {error}')
    except pickle.UnpicklingError as error:
        what = unsafe('a checkpoint that was fetched', error)
        sys.exit(f'{osp.basename(sys.argv[0])}: {what}')
    leave_job()


def leave_job() -> None:
    """Leave the process group, if any, before the interpreter ends.

    gloo's threads still hold tensors then, and one that asks for the
    interpreter's lock while this is torn down aborts the process. They end
    with the group, and this with its last reference: a model's wrapper holds
    one, in a cycle with its runner.
    """
    if torch.distributed.is_initialized():
        gc.collect()
        torch.distributed.destroy_process_group()


def write_table(table: Table, path: str | Path) -> str:
    """Write a table of rich, whole, as wide as it is.

    Returns:
        What the file holds.
    """
    console = Console(width=250)
    with console.capture() as capture:
        console.print(table)
    text = f'{capture.get().strip()}\n'
    with written_beside(path) as beside:
        Path(beside).write_text(text)
    return text
