"""Change one thing in the code, run the tests that cover it: do they see it?

The mutants of `mutants.py` are written one after another into a copy of the
repository. A process that has imported the libraries, but not mmkdna, is
forked for each: it imports the changed package, and runs the tests that cover
the changed statement until one fails; those of the module's own file first,
then the shortest. A mutant that no test kills survives, and is named.

Interrupted, it goes on where it was; a mutant runs again once the function
around it is changed. `--again` runs the survivors again, with new tests.

Example: python experiments/mutation.py --only layers/kernel.py
"""

import argparse
import gc
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import coverage
from forked_tests import Watch, apart, run_tests
from mutants import Mutant, mutants
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent
FOLDERS = 'mmkdna/layers', 'mmkdna/families'
TESTS = (
    'adapter kernel kin member norm settings wrapped forming grouping linking '
    'marks sites bake builds constructors conv_type convert disguise formulas '
    'fuzz_families heads health log numbers parent_kernel plan report '
    'sharding state_dict training transforms upgrades works_with'
)
"""Files of tests; those that take minutes, and other libraries', are not."""
LIBRARIES = (
    'torch.ao.quantization torch.distributed.fsdp torch._dynamo torch.export '
    'torchvision mmengine.runner mmcv.cnn mmdet.models mmseg.models '
    'mmpretrain.models hypothesis yaml safetensors.torch'
)
LONGEST, LIMIT = 4.0, 120.0
"""Seconds of a test that mutants are run by, and of a mutant."""
OUTCOMES = 'killed', 'survived', 'timed out'


def measure() -> dict[str, Any]:
    """Run all tests: their times, and which cover a line of which file."""
    measured = coverage.Coverage(
        data_file=None, config_file=False, include=[f'{f}/*' for f in FOLDERS]
    )
    with measured.collect():
        files = [f'tests/test_{name}.py' for name in TESTS.split()]
        found = run_tests(files, Watch(measured=measured))
    data = measured.get_data()
    return found | {
        'lines': {
            str(Path(name).relative_to(Path.cwd())): data.contexts_by_lineno(
                name
            )
            for name in data.measured_files()
        }
    }


@dataclass
class Chooser:
    """Chooses the tests of a mutant.

    Args:
        measured: What :func:`measure` found.
        most: Seconds of tests for a mutant.
    """

    measured: dict[str, Any]
    most: float

    def __call__(self, file: str, mutant: Mutant) -> list[str]:
        seconds = self.measured['seconds']
        lines = self.measured['lines'].get(file, {})
        first, last = mutant.lines
        tests = {
            test
            for line in range(first, last + 1)
            for test in lines.get(str(line), ())
        }
        own = tests_of(file)
        if mutant.runs_on_import:
            tests = {*seconds}
        elif not tests:
            # A compiler reads it, as no trace shows.
            tests = {test for test in seconds if test.startswith(own)}
        order = sorted(
            (not test.startswith(own), seconds[test], test)
            for test in tests & seconds.keys()
        )
        chosen, left = [], self.most
        for others, length, test in order:
            left -= length if others else 0
            if left > 0 and length < LONGEST:
                chosen.append(test)
        return chosen


def tests_of(file: str) -> str:
    return f'tests/test_{Path(file).stem}.py'


def copy(tree: Path) -> None:
    """What the tests need; what is not changed is linked."""
    for path in ROOT.iterdir():
        if path.name in ('mmkdna', 'tests'):
            pycache = shutil.ignore_patterns('__pycache__', '.mim')
            shutil.copytree(path, tree / path.name, ignore=pycache)
        elif path.name not in ('.git', 'work_dirs'):
            (tree / path.name).symlink_to(path)


def judge(file: str, tests: list[str]) -> dict[str, Any]:
    """Run tests of a mutant: first those of its own file, which is fast."""
    own = [test for test in tests if test.startswith(tests_of(file))]
    found = {'failed': ''}
    for part in (own, [test for test in tests if test not in own]):
        files = dict.fromkeys(test.partition('::')[0] for test in part)
        if part and not found['failed']:
            found = run_tests([*files], Watch(chosen=part))
    return found


def run_mutant(
    file: str, mutant: Mutant, tests: list[str], tree: Path
) -> dict[str, Any]:
    """Whether tests kill a mutant, and which."""
    path, start = tree / file, time.monotonic()
    plain = path.read_text()
    path.write_text(mutant.source)
    # What was written twice in a second would be loaded as it was first.
    for compiled in path.parent.glob(f'__pycache__/{path.stem}.*'):
        compiled.unlink()
    try:
        said = apart(lambda: judge(file, tests), tree, LIMIT)
    finally:
        path.write_text(plain)
    killed = said and said['failed']
    return {
        'outcome': 'killed' if killed else 'survived' if said else 'timed out',
        'by': killed or '',
        'key': mutant.key,
        'file': file,
        'line': mutant.lines[0],
        'scope': mutant.scope,
        'change': mutant.change,
        'tests': len(tests),
        'seconds': round(time.monotonic() - start, 1),
    }


def check_unchanged(file: str, tree: Path, choose: Chooser) -> None:
    """Exit if the tests, in the order for mutants, fail without a change."""
    source = (tree / file).read_text()
    same = Mutant('', (1, 1), '', True, ('', ''), source)
    found = run_mutant(file, same, choose(file, same), tree)
    if found['outcome'] != 'survived':
        sys.exit(f'{file}: no change, but {found["by"]} fails')


def read(results: Path) -> dict[str, dict]:
    """What is known: the last line of each mutant."""
    lines = results.read_text().splitlines() if results.exists() else []
    return {found['key']: found for found in map(json.loads, lines)}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add, text = parser.add_argument, ' (default: %(default)s)'
    add('--out', type=Path, default=Path('work_dirs/mutation'), help='results')
    add('--only', default='', help='part of the names of the files')
    add('--again', action='store_true', help='run survivors again')
    add('--seconds', type=float, default=12, help='of tests each' + text)
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    os.environ.update(OMP_NUM_THREADS='1', PYTHONDONTWRITEBYTECODE='')
    sys.dont_write_bytecode = False
    for name in LIBRARIES.split():
        import_module(name)
    gc.freeze()
    with tempfile.TemporaryDirectory() as made:
        tree = Path(made).resolve()
        copy(tree)
        measured = apart(measure, tree, 3600)
        if not measured or measured['failed']:
            log = (tree / 'log.txt').read_text()[-3000:]
            sys.exit(f'The tests fail without a mutant:\n{log}')
        run(args, tree, measured)


def run(args: Any, tree: Path, measured: dict[str, Any]) -> None:
    """Run each mutant that has no result, and print all results."""
    results = args.out / 'results.jsonl'
    known, choose = read(results), Chooser(measured, args.seconds)
    table = Table('module', *OUTCOMES, title='Mutants')
    total: Counter = Counter()
    left = []
    for path in sorted(p for f in FOLDERS for p in (tree / f).glob('*.py')):
        file = str(path.relative_to(tree))
        counts: Counter = Counter()
        for mutant in mutants(path) if args.only in file else ():
            if not counts:
                check_unchanged(file, tree, choose)
            found = known.get(mutant.key)
            again = args.again and found and found['outcome'] == 'survived'
            if again or not found:
                found = run_mutant(file, mutant, choose(file, mutant), tree)
                with open(results, 'a') as lines:
                    lines.write(json.dumps(found) + '\n')
            counts[found['outcome']] += 1
            if found['outcome'] == 'survived':
                left.append(found)
        if counts:
            print(f'{file}: {dict(counts)}', flush=True)
            table.add_row(file, *(str(counts[o]) for o in OUTCOMES))
            total += counts
    for found in left:
        before, after = (' '.join(code.split()) for code in found['change'])
        print(
            f'{found["file"]}:{found["line"]} {found["scope"]}: {before} -> '
            f'{after} ({found["tests"]} tests)'
        )
    table.add_row('', *(str(total[o]) for o in OUTCOMES))
    Console().print(table)
    print(', '.join(f'{total[o]} {o}' for o in OUTCOMES))


if __name__ == '__main__':
    main()
