"""A folder of results: one JSON file a run, all of one recipe.

An experiment that is interrupted and started again goes on with the run that
it was in; what has finished is not run again.
"""

import argparse
import json
import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from matplotlib.figure import Figure
from mmengine.logging import MMLogger
from rich.table import Table
from torch import nn

from mmkdna import cli
from mmkdna.errors import BadInput
from mmkdna.files import write_json
from mmkdna.measure.complexity import multiply_adds, parameters
from mmkdna.measure.pictures import save
from mmkdna.measure.show import new_table, print_table

Run = Mapping[str, Any]
SIZE = (3, 32, 32)


class Results:
    """The runs of a folder, by what was trained and by seed.

    Args:
        folder: Where ``NAME-SEED.json`` are.
        recipe: What all of them have in common.

    Raises:
        BadInput: If one of them was trained otherwise.
    """

    def __init__(self, folder: Path, recipe: Mapping[str, Any]):
        self.folder, self.recipe = folder, dict(recipe)
        self.runs: dict[tuple[str, int], Run] = {}
        for path in sorted(folder.glob('*.json')):
            run = json.loads(path.read_text())
            self._check(path, run.get('recipe', {}))
            self.runs[run['name'], run['seed']] = run

    def _check(self, path: Path, theirs: Mapping[str, Any]) -> None:
        for key in {**self.recipe, **theirs}:
            there, here = theirs.get(key), self.recipe.get(key)
            if there != here:
                raise BadInput(
                    f'{path} is of another recipe: {key}={there!r}, expected '
                    f'{here!r}; give --out a folder of its own'
                )

    def need(self, name: str, seed: int) -> Run:
        """A run that another one needs.

        Raises:
            BadInput: If it has not been run.
        """
        if (name, seed) not in self.runs:
            raise BadInput(
                f'it needs the result of {name}, seed {seed}, which is not in '
                f'{self.folder}; run that first: --only {name} --seeds {seed}'
            )
        return self.runs[name, seed]

    def add(self, name: str, seed: int, **result: Any) -> None:
        run = {'name': name, 'seed': seed, **result, 'recipe': self.recipe}
        write_json(run, self.folder / f'{name}-{seed}.json')
        self.runs[name, seed] = run

    def of(self, name: str) -> list[Run]:
        return [run for (n, _), run in self.runs.items() if n == name]

    def run_all(
        self,
        cells: Iterable[tuple[str, int]],
        once: Callable[[str, int], Mapping[str, Any]],
    ) -> bool:
        """Run what is not there yet, and say what cannot be run.

        Returns:
            Whether all of it is there now.
        """
        whole = True
        for name, seed in cells:
            if (name, seed) in self.runs:
                continue
            try:
                result = once(name, seed)
            except (BadInput, FileNotFoundError) as error:
                print(f'{name}, seed {seed}: {error}', file=sys.stderr)
                whole = False
                continue
            self.add(name, seed, **result)
            shown = {k: v for k, v in result.items() if k != 'weights'}
            print(f'{name}, seed {seed}: {shown}', flush=True)
        return whole


def size_of(net: nn.Module) -> dict[str, int]:
    """Parameters, and multiply-adds of one image."""
    return dict(
        parameters=parameters(net),
        multiply_adds=multiply_adds(net, SIZE, lambda model, x: model(x)),
    )


def mean_and_spread(values: Sequence[float]) -> str:
    spread = f' ± {stdev(values):.2f}' if len(values) > 1 else ''
    return f'{mean(values):.2f}{spread}'


def as_table(
    results: Results,
    titles: Mapping[str, str],
    base: str,
    scores: Sequence[str] = ('accuracy',),
) -> Table:
    """A line for each name that has runs, its size beside the base's.

    Args:
        results: The runs, each with these scores.
        titles: By name.
        base: The name of what the others are compared with.
        scores: Their means get a column each; so does a ``start``.
    """
    if any('start' in run for run in results.runs.values()):
        scores = ['start', *scores]
    heads = ('runs', 'parameters', 'multiply-adds, M', 'seconds', *scores)
    table = new_table('', numbers=heads, markdown=True)
    plain = results.of(base)
    for name, title in titles.items():
        runs = results.of(name)
        if not runs:
            continue
        count = runs[0]['parameters']
        share = ''
        if plain and name != base:
            share = f' ({count / plain[0]["parameters"] - 1:+.0%})'
        row = [
            title,
            str(len(runs)),
            f'{count:,}{share}',
            f'{runs[0]["multiply_adds"] / 1e6:.1f}',
            f'{mean(run["seconds"] for run in runs):.0f}',
        ]
        for score in scores:
            found = [run[score] for run in runs if score in run]
            row.append(mean_and_spread(found) if found else '')
        table.add_row(*row)
    return table


FAR = 5
"""A picture has no scores that are so many percent under the best."""
AXES = {
    'parameters': ('parameters, thousands', 1e3),
    'multiply_adds': ('multiply-adds of an image, millions', 1e6),
    'seconds': ('training, seconds of one core', 1),
}


def draw(
    results: Results,
    titles: Mapping[str, str],
    path: Path,
    score: str = 'accuracy',
) -> None:
    """A score against parameters, multiply-adds and training time.

    Scores far below the others are in a line of text.
    """
    best = max(run[score] for run in results.runs.values())
    below = []
    figure = Figure((15, 5.5), dpi=110, layout='constrained')
    panels = figure.subplots(1, len(AXES), sharey=True)
    shapes = 'osD^v<>Phd*pX8'
    for i, (name, title) in enumerate(titles.items()):
        runs = results.of(name)
        if not runs:
            continue
        scores = [run[score] for run in runs]
        if mean(scores) < best - FAR:
            below.append(f'{title} {mean(scores):.1f}')
            continue
        spread = stdev(scores) if len(scores) > 1 else 0
        for axes, (key, (label, unit)) in zip(
            panels, AXES.items(), strict=True
        ):
            axes.errorbar(
                mean(run[key] for run in runs) / unit,
                mean(scores),
                spread,
                fmt=shapes[i % len(shapes)],
                color=f'C{i % 10}',
                capsize=3,
                label=f'{title} ({len(runs)})',
            )
            axes.set(xlabel=label)
            axes.grid(alpha=0.3)
    panels[0].set(ylabel=f'{score}, percent (mean, standard deviation)')
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc='outside lower center', ncols=4)
    if below:
        figure.suptitle(f'Below: {"; ".join(below)}', fontsize='medium')
    save(figure, path)


def parser(
    doc: str | None,
    names: Iterable[str],
    out: Path,
    epochs: int | None = None,
) -> argparse.ArgumentParser:
    """The command line that the experiments share.

    Args:
        doc: Its description.
        names: What can be run.
        out: Where results go by default.
        epochs: By default, where CIFAR-10's images are trained on.
    """
    result = cli.plain_parser(doc)
    add = result.add_argument
    add('--data', type=Path, help='folder of the images')
    add('--out', type=Path, default=out, help='results (default: %(default)s)')
    add('--seeds', type=int, nargs='+', default=[0, 1, 2])
    add('--only', nargs='+', metavar='NAME', choices=[*names], help='of these')
    add('--threads', type=cli.at_least(1), default=1)
    if epochs is not None:
        add('--epochs', type=cli.at_least(1), default=epochs)
        text = 'training images (default: %(default)s)'
        add('--images', type=cli.at_least(128), default=50_000, help=text)
    add(
        '--show', action='store_true', help='train nothing, show what is there'
    )
    return result


def set_up(args: argparse.Namespace) -> None:
    """Threads, and silence from the package.

    Raises:
        BadInput: If there is to be training without images.
    """
    if args.data is None and not args.show:
        raise BadInput('--data: expected the folder of the images')
    torch.set_num_threads(args.threads)
    MMLogger.get_instance('mmengine', log_level='ERROR')
    logging.getLogger('mmengine').setLevel(logging.ERROR)


def carry_out(
    args: argparse.Namespace,
    results: Results,
    cells: Iterable[tuple[str, int]],
    once: Callable[[str, int], Mapping[str, Any]],
    titles: Mapping[str, str],
    scores: Sequence[str] = ('accuracy',),
) -> None:
    """Run the cells that the user chose, then show all that is there.

    The process fails if one of them could not be run.
    """
    chosen = [c for c in cells if not args.only or c[0] in args.only]
    whole = args.show or results.run_all(chosen, once)
    print_table(as_table(results, titles, 'plain', scores), markdown=True)
    if results.runs:
        path = results.folder / 'scores.png'
        draw(results, titles, path, scores[0])
        print(f'The picture is {path}.')
    if not whole:
        sys.exit(1)
