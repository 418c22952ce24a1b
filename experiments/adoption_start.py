"""How a plain network had better start as KernelDNA: at once, or by a fade?

Prints what was measured with three seeds each, for a ResNet-20 on CIFAR-10 and
the digits' Mask R-CNN with frozen BatchNorm:

    once            the parent's kernel, the adapter at its start
    once+fit        the static modulation fitted to the child's own kernel
    fade            fitted, what is left fades over 0.3 of the run
    ...+teacher     taught the plain network's features until 0.8 of the run

The fit and the fade are deleted since. The runs are those of this file at
commit 554ece2, with the package of commit 5cc183f.

Example: python experiments/adoption_start.py
"""

import json
import math
import statistics
from pathlib import Path

RUNS = Path(__file__).with_suffix('')
WAYS = ('once', 'fade', 'once+teacher', 'fade+teacher', 'once+fit', 'plain')


def main() -> None:
    for task in ('cifar', 'digits'):
        for way in WAYS:
            files = sorted(RUNS.glob(f'{task}-{way}-*.json'))
            runs = [json.loads(file.read_text()) for file in files]
            for score in ('end', 'mask'):
                ends = [run[score] for run in runs if score in run]
                if not ends:
                    continue
                spread = statistics.stdev(ends) if len(ends) > 1 else math.nan
                print(
                    f'{task:7} {way:13} {score:5} n={len(ends)} '
                    f'{statistics.mean(ends):6.2f} +- {spread:4.2f}  '
                    f'parameters {runs[0]["parameters"]:,}  '
                    f'start {runs[0].get("start", math.nan):5.1f}  '
                    f'{[round(e, 2) for e in ends]}'
                )


if __name__ == '__main__':
    main()
