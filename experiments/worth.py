"""Is it worth it: the experiments' results in one table.

For each task the plain network, what a user would do instead of KernelDNA,
and KernelDNA: size, time and score. It reads the folders of results beside
it; a network without a result has no line.

    python experiments/worth.py
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import adoption
import dense
import from_scratch
from results import Run, mean_and_spread

from mmkdna import cli
from mmkdna.measure.show import new_table, print_table


class Task(NamedTuple):
    """What of one experiment is in the table.

    Args:
        title: Of the task.
        folder: Of its results, below this one.
        titles: Of its networks, by the names of their results.
        shown: Names, the plain network first.
        rivals: Names of which the table has the best one.
        scores: Names of the scores.
    """

    title: str
    folder: str
    titles: Mapping[str, str]
    shown: Sequence[str]
    rivals: Sequence[str] = ()
    scores: Sequence[str] = ('accuracy',)


_WAYS = {name: way.title for name, way in adoption.WAYS.items()}
_SHOWN = [
    'plain',
    'narrowed25',
    'pruned25_taught',
    'low_rank25_taught',
    'shared25_taught',
    'planned25_taught',
]
_UNSHOWN = {'first', 'coarse', 'finest'}
"""Ways that only the table of their own task has."""
TASKS = (
    Task(
        'CIFAR-10, ResNet-18 of width 16',
        'from_scratch',
        {name: s.title for name, s in from_scratch.SUBJECTS.items()},
        (
            *('plain', 'narrow', 'gates', 'tied'),
            *('kernel_dna', 'kernel_dna_late', 'kernel_dna_wide'),
        ),
        [*from_scratch.PEERS, *from_scratch.AS_LONG],
    ),
    Task('CIFAR-10, trained ResNet-20', 'adoption/resnet20', _WAYS, _SHOWN),
    Task('CIFAR-10, trained ResNet-18', 'adoption/resnet18', _WAYS, _SHOWN),
    *(
        Task(
            task.title,
            f'dense/{name}',
            task.ways,
            [way for way in task.ways if way not in _UNSHOWN],
            scores=task.scores,
        )
        for name, task in dense.TASKS.items()
    ),
)


def runs_of(folder: Path) -> dict[str, list[Run]]:
    """The results of a folder, by what was trained."""
    found: dict[str, list[Run]] = {}
    for path in sorted(folder.glob('*.json')):
        run = json.loads(path.read_text())
        found.setdefault(run['name'], []).append(run)
    return found


def lines(task: Task, runs: Mapping[str, Sequence[Run]]) -> list[list[str]]:
    """The lines of a task; the first has its title."""
    first, *_ = task.scores
    shown = [name for name in task.shown if name in runs]
    rivals = {
        name: mean(run[first] for run in runs[name])
        for name in task.rivals
        if name in runs and not name.startswith('kernel_dna')
    }
    if rivals:
        shown.append(max(rivals, key=lambda name: rivals[name]))
    plain = runs[task.shown[0]]
    rows = []
    for name in shown:
        count = runs[name][0]['parameters']
        seconds = mean(run['seconds'] for run in runs[name])
        share = count / plain[0]['parameters'] - 1
        scores = [
            f'{mean_and_spread([run[key] for run in runs[name]])} {key}'
            for key in task.scores
        ]
        rows.append(
            [
                '' if rows else task.title,
                task.titles[name],
                f'{count / 1e6:.3f}' + (f' ({share:+.0%})' if share else ''),
                f'{runs[name][0]["multiply_adds"] / 1e6:.1f}',
                f'{seconds / mean(run["seconds"] for run in plain):.2f}',
                str(len(runs[name])),
                ', '.join(scores),
            ]
        )
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.plain_parser(__doc__)
    folder = Path(__file__).parent
    parser.add_argument('--root', type=Path, default=folder, help='of folders')
    args = parser.parse_args(argv)
    table = new_table(
        'task',
        'network',
        numbers=(
            'parameters, M',
            'multiply-adds, M',
            'training time / plain',
            'runs',
            'score',
        ),
        markdown=True,
    )
    for task in TASKS:
        runs = runs_of(args.root / task.folder)
        if task.shown[0] in runs and len(runs) > 1:
            for line in lines(task, runs):
                table.add_row(*line)
    print_table(table, markdown=True)


if __name__ == '__main__':
    cli.exit_on_bad_input(main)
