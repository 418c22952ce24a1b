"""Functions that the command lines of `tools/` share."""

import argparse
import gc
import os
import os.path as osp
import pickle
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.logging import MMLogger
from mmengine.registry import RUNNERS

from .checkpoint import unsafe
from .errors import NO_ROOM, BadInput
from .measure.configs import CONV_TYPES
from .openmmlab import write_whole
from .zoo import load_tensors_only


def plain_parser(text: str | None) -> argparse.ArgumentParser:
    """A parser that prints the docstring without wrapping it."""
    as_it_is = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(description=text, formatter_class=as_it_is)


def config_parser(
    description: str | None, number: str | None = None, source: bool = False
) -> argparse.ArgumentParser:
    """A parser with the config, ``number`` as argparse's ``nargs``.

    With ``source`` a checkpoint ``src`` comes before it.
    """
    parser = plain_parser(description)
    if source:
        parser.add_argument('src', help='checkpoint file to read')
    parser.add_argument('config', nargs=number, help='config file')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        type=_key_value,
        action=DictAction,
        metavar='KEY=VALUE',
        help='override settings of the config, such as '
        'train_dataloader.batch_size=4 or key="[a,b]"',
    )
    return parser


def _expect(text: str, holds: bool, expected: str) -> None:
    if not holds:
        raise argparse.ArgumentTypeError(f'{text}: expected {expected}')


def _key_value(text: str) -> str:
    _expect(text, '=' in text, 'KEY=VALUE')
    return text


def dimensions(form: str, example: str) -> Callable[[str], tuple[int, ...]]:
    """An argument type: numbers joined by x, such as 800x1088."""

    def parse(text: str) -> tuple[int, ...]:
        parts = text.split('x')
        right = all(part.isdecimal() and int(part) for part in parts)
        right = right and len(parts) == len(form.split('x'))
        _expect(text, right, f'{form}, such as {example}')
        return tuple(map(int, parts))

    return parse


def at_least(least: int) -> Callable[[str], int]:
    """An argument type: whole numbers of at least ``least``."""

    def parse(text: str) -> int:
        holds = text.isdecimal() and int(text) >= least
        _expect(text, holds, f'a whole number of at least {least}')
        return int(text)

    return parse


def share(text: str) -> float:
    """An argument type: a share, such as -25% or -0.25."""
    try:
        percent = text.endswith('%')
        return float(text.removesuffix('%')) / (100 if percent else 1)
    except ValueError:
        _expect(text, False, 'a share, such as -25%')
        raise


def joined(option: str, argv: Sequence[str] | None) -> list[str]:
    """The arguments, with ``OPTION -25%`` as ``OPTION=-25%``.

    argparse takes a value like that for an option. None stands for the
    arguments of the process.
    """
    result = list(sys.argv[1:] if argv is None else argv)
    if option in result[:-1]:
        at = result.index(option)
        result[at : at + 2] = [f'{option}={result[at + 1]}']
    return result


def add_size_argument(parser: argparse.ArgumentParser) -> None:
    """Add the size of the input; None if it is not given."""
    parser.add_argument(
        '--size',
        type=dimensions('HEIGHTxWIDTH', '800x1088'),
        metavar='HEIGHTxWIDTH',
        help='input size in pixels, such as 800x1088 (default: the test '
        'size of the config)',
    )


def add_device_argument(parser: argparse.ArgumentParser) -> None:
    """Add where a model runs."""
    text = 'default: %(default)s'
    parser.add_argument('--device', default=get_device(), help=text)


def add_timing_arguments(
    parser: argparse.ArgumentParser, rounds: int, batch: int, types: str
) -> None:
    """Add which conv types are timed, and how, with these defaults."""
    parser.add_argument(
        '--types',
        nargs='+',
        metavar='TYPE',
        help='conv types, with arguments as in ODConv,experts=4; plain is '
        f'always added; known: {", ".join(CONV_TYPES)} (default: {types})',
    )
    add, text = parser.add_argument, ' (default: %(default)s)'
    add('--rounds', type=at_least(2), default=rounds, help='rounds' + text)
    add('--batch', type=at_least(1), default=batch, help='images' + text)
    add_size_argument(parser)


def short_name(path: str) -> str:
    """A config's path as the tables show it."""
    return path.removeprefix('configs/').removesuffix('.py')


def add_runner_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what training and testing share: work dir and launcher."""
    add = parser.add_argument
    text = 'folder for the output (default: work_dirs/NAME_OF_THE_CONFIG)'
    add('--work-dir', help=text)
    text = 'the launcher of a distributed job'
    known = ['none', 'pytorch', 'slurm', 'mpi']
    add('--launcher', choices=known, default='none', help=text)
    # torch.distributed.launch passes this one to every process.
    names, text = ('--local_rank', '--local-rank'), argparse.SUPPRESS
    add(*names, type=int, default=0, help=text)


def quiet() -> None:
    """Log errors only, so that the tool's own output stays readable."""
    MMLogger.get_current_instance().setLevel('ERROR')


def load_config(path: str, options: dict | None = None) -> Config:
    """Read a config and merge ``--cfg-options``."""
    if not osp.isfile(path):
        raise FileNotFoundError(
            f'config {path} does not exist; configs/ holds those of mmkdna'
        )
    cfg = Config.fromfile(path)
    if options is not None:
        cfg.merge_from_dict(options)
    return cfg


def check_checkpoint(path: str) -> None:
    """Check that a checkpoint exists, unless it is an address."""
    if '://' not in path and not osp.isfile(path):
        raise FileNotFoundError(
            f'checkpoint {path} does not exist; training writes them to its '
            'work dir, whose last_checkpoint names the latest'
        )


def runner_config(args: argparse.Namespace) -> Config:
    """The config of a run, with the work dir and launcher of the user."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = load_config(args.config, args.cfg_options)
    cfg.launcher, name = args.launcher, Path(args.config).stem
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or f'work_dirs/{name}'
    return cfg


def join_cpu_job(cfg: Config) -> None:
    """Start a process group for torchrun on a machine without GPUs.

    mmengine's launcher expects a GPU for each process and fails without one.
    It does not change an existing process group.
    """
    if cfg.get('launcher') == 'pytorch' and get_device() == 'cpu':
        torch.distributed.init_process_group('gloo')
        options = dict(device_ids=None, broadcast_buffers=False)
        wrapper = dict(options, type='MMDistributedDataParallel')
        cfg.setdefault('model_wrapper_cfg', wrapper)


def build_runner(cfg: Config) -> Any:
    """mmengine's runner, or the one that the config names.

    It loads and resumes from checkpoints without running their code.
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
    return RUNNERS.build(cfg)


def exit_on_bad_input(main: Callable[[list[str] | None], None]) -> None:
    """Run a command line; print a user's mistake as a sentence.

    Full disks and Ctrl-C are a sentence, too. What the command writes is
    whole. If the reader of the output has gone, as in ``| head -1``, it just
    ends.
    """
    name = osp.basename(sys.argv[0].removesuffix('/__main__.py'))
    write_whole()
    try:
        main(None)
        sys.stdout.flush()
    except BrokenPipeError:
        try:
            print(flush=True)
        except BrokenPipeError:
            # Python flushes once more at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        # It was another pipe.
        raise
    except (BadInput, FileNotFoundError, FileExistsError) as error:
        # An error of the operating system keeps its traceback.
        if getattr(error, 'errno', None) is not None:
            raise
        sys.exit(f'{name}: {error}')
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        what = error.filename or 'a file'
        sys.exit(f'{name}: {what} cannot be written: {error.strerror}')
    except pickle.UnpicklingError as error:
        sys.exit(f'{name}: {unsafe("a checkpoint that was fetched", error)}')
    except KeyboardInterrupt:
        print(f'{name}: interrupted', file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    leave_job()


def leave_job() -> None:
    """Leave the process group, if any, before the interpreter ends.

    gloo's threads hold tensors. A thread that asks for the interpreter's lock
    during its shutdown aborts the process. The threads end with the last
    reference to the group. A model's wrapper holds one, in a cycle with its
    runner, so collect garbage first.
    """
    if torch.distributed.is_initialized():
        gc.collect()
        torch.distributed.destroy_process_group()
