"""Kill commands at random moments; look at what is left, and go on.

Training by epochs and by iterations, conversion, baking, publishing,
download and the digit scenes get SIGTERM and SIGKILL in turn. Half of the
moments are random between a command's start and its end, half fall 10 us to
10 ms after it began to write a file. After a kill, all that stands under a
final name has to be whole, and no less than before. Half of the time the
command is then run to its end: it has to leave what it leaves without a kill,
bit for bit (weights, the optimizer's state and the last scores of training),
and no part of a file. Exits with 1 if something of this does not hold.

Example: python experiments/interruptions.py --count 100 --seed 0
"""

import contextlib
import hashlib
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from mmengine.runner import Runner
from mmpretrain.utils import register_all_modules
from rich.console import Console
from rich.table import Table
from victims import DOWNLOAD, begin, fetch, finish, prepare, serve, tool

from mmkdna.checkpoint import read_checkpoint
from mmkdna.cli import at_least, exit_on_bad_input, plain_parser
from mmkdna.datasets.digit_scenes import write_scenes
from mmkdna.errors import BadInput
from mmkdna.files import sha256
from mmkdna.measure.runs import last_scores


def whole_files(folder: Path) -> dict[str, str]:
    """The hash of each file under a final name."""
    return {
        str(path.relative_to(folder)): sha256(str(path))
        for path in sorted(folder.rglob('*'))
        if path.is_file()
        and '.part' not in str(path)
        and path.suffix != '.lock'
    }


def digest(value: Any, into: Any) -> None:
    """Hash a checkpoint's tensors, and numbers, in their order."""
    if isinstance(value, torch.Tensor):
        into.update(value.contiguous().numpy().tobytes())
    elif isinstance(value, dict):
        for key, inner in value.items():
            into.update(str(key).encode())
            digest(inner, into)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            digest(inner, into)
    else:
        into.update(str(value).encode())


def checkpoints(folder: Path) -> dict[str, str]:
    """What each checkpoint of a run trained: the hash of its numbers.

    Raises:
        BadInput: If one is not whole, or the latest is not there.
    """
    found = {}
    for path in folder.glob('*.pth'):
        saved, into = read_checkpoint(str(path)), hashlib.sha256()
        for key in ('state_dict', 'optimizer', 'param_schedulers'):
            digest(saved[key], into)
        found[path.name] = into.hexdigest()
    latest = folder / 'last_checkpoint'
    if latest.exists():
        name = Path(latest.read_text()).name
        if name not in found:
            raise BadInput(f'{latest} names {name!r}, which is not there')
        found['latest'] = name
    return found | {k: str(n) for k, n in last_scores(folder).items()}


def steps(found: dict[str, str]) -> int:
    """The epochs or iterations of the checkpoint that a run goes on from."""
    return int(re.sub(r'\D', '', found.get('latest', '0')))


@dataclass
class Victim:
    """A command, and what is known of it.

    Args:
        name: For the table.
        command: Runs in the folder of the experiment, writes below ``out``.
        out: The folder that it writes to.
        look: What stands under final names there; raises
            :class:`BadInput` for what is not whole.
        trains: Its results grow: older checkpoints go.
    """

    name: str
    command: Callable[[], None]
    out: Path
    look: Callable[[Path], dict[str, str]] = whole_files
    trains: bool = False
    seconds: float = 0
    expected: dict[str, str] = field(default_factory=dict)
    before: dict[str, str] = field(default_factory=dict)
    counts: Counter = field(default_factory=Counter)

    def parts(self) -> list[Path]:
        """What the killed process had not moved to its place."""
        return [p for p in self.out.parent.rglob('*') if '.part' in p.name]

    def learn(self, folder: Path) -> None:
        """Run it without a kill: how long, and what it leaves."""
        start = time.monotonic()
        finish(self.command, folder, f'{self.out.parent.name}.log')
        self.seconds = time.monotonic() - start
        self.expected = self.look(self.out)
        self.clear()

    def clear(self) -> None:
        shutil.rmtree(self.out.parent, ignore_errors=True)
        self.before = {}

    def kill(self, folder: Path, how: int, dice: random.Random) -> None:
        """Begin it, and kill it before it ends."""
        log = f'{self.out.parent.name}.log'
        while True:
            old = {*self.parts()}
            start = time.monotonic()
            pid, pipe = begin(self.command, folder, log)
            delay = dice.uniform(0, self.seconds)
            if dice.random() < 0.5:
                # A file is opened three times: made, locked, written.
                for _ in range(dice.randint(1, 24 if self.trains else 3)):
                    os.read(pipe, 1)
                start, delay = time.monotonic(), 10 ** dice.uniform(-5, -2)
            time.sleep(max(0, start + delay - time.monotonic()))
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, how)
            _, status = os.waitpid(pid, 0)
            os.close(pipe)
            if os.WIFSIGNALED(status):
                break
            self.done()
        self.counts['kills'] += 1
        self.counts['while writing'] += bool({*self.parts()} - old)
        self.check()

    def check(self) -> None:
        """What is left is whole, and no less than before."""
        try:
            found = self.look(self.out)
        except BadInput as error:
            print(f'{self.name}: {error}')
            self.counts['half-written'] += 1
            return
        if self.trains:
            lost, wrong = steps(self.before) > steps(found), False
        else:
            lost = bool(self.before.keys() - found.keys())
            wrong = bool(found.items() - self.expected.items())
        self.counts['lost'] += lost
        self.counts['half-written'] += wrong
        if lost or wrong:
            print(f'{self.name}: {self.before} became {found}')
        self.before = found

    def finish(self, folder: Path) -> None:
        """Run it to its end."""
        try:
            finish(self.command, folder, f'{self.out.parent.name}.log')
        except BadInput as error:
            print(f'{self.name}: {error}')
        self.done()

    def done(self) -> None:
        """It ended: as without a kill, and nothing beside."""
        found = self.look(self.out)
        right = found == self.expected and not self.parts()
        self.counts['resumed'] += right
        self.counts['not resumed'] += not right
        if not right:
            print(f'{self.name}: {found} of {self.expected}, {self.parts()}')
        self.clear()


def victims(folder: Path, url: str, expected: str) -> list[Victim]:
    """All that is killed."""
    config, scenes = 'epochs.py', dict(num_train=24, num_val=6, seed=1)

    def one(title: str, command: Callable[[], None], **more: Any) -> Victim:
        name = title.replace(' ', '_')
        return Victim(title, command, folder / name / 'out', **more)

    def train(by: str) -> Victim:
        out = f'train_by_{by}/out'
        command = partial(
            tool, 'train', f'{by}.py', '--resume', '--work-dir', out
        )
        how = dict(look=checkpoints, trains=True)
        return one(f'train by {by}', command, **how)

    convert = 'convert_checkpoint', 'plain.pth', config, 'convert/out/a.pth'
    bake = 'bake', 'kdna.pth', config, 'bake/out/a.safetensors', '--force'
    publish = 'publish_model', 'kdna.pth', config, 'publish/out'
    return [
        train('epochs'),
        train('iterations'),
        one('convert', partial(tool, *convert)),
        one('bake', partial(tool, *bake)),
        one('publish', partial(tool, *publish)),
        one('download', partial(fetch, url, expected)),
        one('digits', partial(write_scenes, 'digits/out', **scenes)),
    ]


COLUMNS = (
    'kills',
    'while writing',
    'lost',
    'half-written',
    'resumed',
    'not resumed',
)


def shown(found: list[Victim]) -> Table:
    """The counts of all victims."""
    table = Table('command', *COLUMNS, title='Interrupted')
    total = sum((v.counts for v in found), Counter())
    for name, counts in [*((v.name, v.counts) for v in found), ('', total)]:
        table.add_row(name, *(str(counts[c]) for c in COLUMNS))
    return table


def main(argv: Sequence[str] | None = None) -> None:
    parser = plain_parser(__doc__)
    add, text = parser.add_argument, ' (default: %(default)s)'
    add('--count', type=at_least(1), default=100, help='kills' + text)
    add('--seed', type=at_least(0), default=0, help='of the moments' + text)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    # It asks the compilers for their versions, which takes a second.
    Runner._log_env = lambda *_: None
    # What the commands import is imported once, here.
    register_all_modules(init_default_scope=False)
    import_module('mmkdna.backbones')
    dice = random.Random(args.seed)
    body = dice.randbytes(DOWNLOAD)
    url, server = serve(body)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        try:
            prepare(folder)
            found = victims(folder, url, hashlib.sha256(body).hexdigest())
            run(found, folder, args.count, dice)
        finally:
            os.kill(server, signal.SIGKILL)
            os.waitpid(server, 0)
    Console().print(shown(found))
    total = sum((v.counts for v in found), Counter())
    print(', '.join(f'{total[column]} {column}' for column in COLUMNS))
    if any(total[c] for c in ('lost', 'half-written', 'not resumed')):
        sys.exit(1)


def run(
    found: list[Victim], folder: Path, count: int, dice: random.Random
) -> None:
    """Kill each in turn, and run it to its end half of the time."""
    for victim in found:
        victim.learn(folder)
        print(f'{victim.name}: {victim.seconds:.1f} s', flush=True)
    for number in range(count):
        victim = found[number % len(found)]
        how = (signal.SIGTERM, signal.SIGKILL)[number // len(found) % 2]
        victim.kill(folder, how, dice)
        last = number + len(found) >= count
        if last or dice.random() < 0.5:
            victim.finish(folder)
        counts = {c: n for c, n in victim.counts.items() if n}
        print(f'{number + 1}: {victim.name} {counts}', flush=True)


if __name__ == '__main__':
    exit_on_bad_input(main)
