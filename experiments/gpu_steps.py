"""A report in steps: as many as fit the time, the rest by the next call."""

import gc
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from scores import as_text, scores_table

from mmkdna.errors import BadInput
from mmkdna.files import write_json, write_text
from mmkdna.measure.configs import PLAIN
from mmkdna.measure.show import figures_table


@dataclass(frozen=True)
class Step:
    """A part of the report.

    Args:
        title: Unlike any other's.
        seconds: How long it will take, about.
        kind: How its result is shown: times, kernels or run.
        run: Returns a dict that JSON can hold.
    """

    title: str
    seconds: float
    kind: str
    run: Callable[[], dict]


class Report:
    """Results in ``gpu_report.json`` and ``gpu_report.md`` of a folder.

    Both are written anew, whole, after each step. What is in the folder
    already is not measured again.

    Args:
        folder: Made where it is not there.
        about: What all steps have in common: the device, the versions.

    Raises:
        BadInput: If the folder cannot be written, or holds the report of
            something else.
    """

    def __init__(self, folder: Path, about: dict[str, str]) -> None:
        self.folder, self.about = folder, about
        self.done: dict[str, dict] = {}
        self.left: dict[str, str] = {}
        path = folder / 'gpu_report.json'
        if path.exists():
            before = json.loads(path.read_text())
            if before['about'] != about:
                raise BadInput(
                    f'{path} is of {before["about"]}, this run of {about}; '
                    'expected another --out, or that file removed'
                )
            self.done = before['steps']
        self.write()

    def run(self, steps: Iterable[Step], end: float) -> None:
        """Do the steps that are left, but for those that would end too late.

        Args:
            steps: In the order of what matters.
            end: When there is no time left, as of ``time.monotonic``.
        """
        expected = taken = 0.0
        for step in steps:
            if step.title in self.done:
                continue
            start = time.monotonic()
            # A slower or faster machine than the guess is for shows soon.
            pace = taken / expected if expected else 1
            if start + pace * step.seconds > end:
                self.left[step.title] = 'no time left'
                continue
            seconds = pace * step.seconds
            print(f'{step.title} (about {seconds:.0f} s)', flush=True)
            self._do(step)
            expected += step.seconds
            taken += time.monotonic() - start
            gc.collect()
            torch.cuda.empty_cache()
            self.write()
        self.write()

    def _do(self, step: Step) -> None:
        try:
            result = step.run()
        except Exception as error:
            # The other steps are worth having without this one.
            why = ' '.join(str(error).split())[-300:]
            self.left[step.title] = f'{type(error).__name__}: {why}'
            print(f'  failed: {self.left[step.title]}')
            return
        self.done[step.title] = dict(kind=step.kind, **result)
        self.left.pop(step.title, None)

    def write(self) -> None:
        """Write both files, whole."""
        value = dict(about=self.about, steps=self.done, left=self.left)
        write_json(value, self.folder / 'gpu_report.json')
        write_text(self.markdown(), self.folder / 'gpu_report.md')

    def markdown(self) -> str:
        """The report to read."""
        parts = ['# GPU report', ', '.join(self.about.values())]
        parts.append(
            'By `make gpu-report`. All types of a table ran in turns; times '
            'are medians, a ratio is to plain in the same round, with its '
            'quartiles. `peak` is the memory of one run beside what was '
            'there before it: weights and optimizer are not in it.'
        )
        scores: dict[str, Any] = {}
        for title, step in self.done.items():
            if step['kind'] == 'times':
                table = figures_table('', step['rows'], True)
                parts += [f'## {title}', as_text(table)]
            elif step['kind'] == 'kernels':
                parts += [f'## {title}', _kernels(step['kernels'])]
            else:
                row = scores.setdefault(step['network'], {**step['row']})
                row.setdefault('scores', {'accuracy': []})
                row['scores']['accuracy'].append(step['accuracy'])
                row['seeds'] = row.get('seeds', 0) + 1
                title = step['title']
        if PLAIN in scores:
            parts += [f'## {title}', as_text(scores_table(scores))]
        if self.left:
            parts.append('## Left out')
            parts.append('The same command goes on with these:')
            left = (f'- {title}: {why}' for title, why in self.left.items())
            parts.append('\n'.join(left))
        return '\n\n'.join(part.strip() for part in parts) + '\n'


def _kernels(found: dict[str, tuple[float, float]]) -> str:
    """A table of kernels, KernelDNA's time beside plain's."""
    lines = ['| kernel | KernelDNA, ms | plain, ms | difference, ms |']
    lines.append('|---|---:|---:|---:|')
    for name, (ours, plain) in found.items():
        short = name.replace('|', '/')[:90]
        numbers = (1e3 * t for t in (ours, plain, ours - plain))
        cells = ' | '.join(f'{number:.3f}' for number in numbers)
        lines.append(f'| `{short}` | {cells} |')
    return '\n'.join(lines)
