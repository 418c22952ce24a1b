"""Measure KernelDNA and the other conv types on this machine's GPU.

R-50 in inference and training, eager and compiled, in bfloat16 and float32;
one layer; the kernels that make the difference; FSDP2; and CIFAR-10 where
--data is given. It writes gpu_report.md and gpu_report.json. What does not fit
into --minutes is left out and named: the same command goes on with it.

Example: python experiments/gpu_report.py --data FOLDER --minutes 20
"""

import time
from collections.abc import Sequence
from pathlib import Path

import gpu_cifar
import gpu_plan
import gpu_steps
import torch

from mmkdna import __version__, cli
from mmkdna.errors import BadInput
from mmkdna.measure.subjects import Conditions


def about(device: str, tiny: bool) -> dict[str, str]:
    """What all figures of a report have in common."""
    name = 'CPU'
    if torch.device(device).type == 'cuda':
        name = torch.cuda.get_device_name(device)
    return dict(
        device=name,
        size='tiny networks' if tiny else 'R-50',
        torch=f'torch {torch.__version__}',
        mmkdna=f'mmkdna {__version__}',
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.plain_parser(__doc__)
    add, least = parser.add_argument, cli.at_least(1)
    add('--device', default='cuda', help='default: %(default)s')
    add('--tiny', action='store_true', help='tiny networks: does it run?')
    text = 'folder of cifar10_train.npz and cifar10_test.npz'
    add('--data', type=Path, help=text)
    text = 'for all of it, half of them for --data (default: %(default)s)'
    add('--minutes', type=least, default=9, help=text)
    text = 'folder to write to (default: %(default)s)'
    add('--out', type=Path, default=Path('work_dirs/gpu_report'), help=text)
    args = parser.parse_args(argv)
    start, device, tiny = time.monotonic(), args.device, args.tiny
    batch = 8 if tiny else 256
    how = Conditions(batch, (32, 32), device, 'bfloat16', True)
    if torch.device(device).type != 'cuda' and not tiny:
        raise BadInput(
            f'--device {device}: expected a GPU, such as cuda, or --tiny'
        )
    data = args.data and gpu_cifar.load(args.data, 64 if tiny else None)
    sizes = gpu_plan.TINY if tiny else gpu_plan.Sizes()
    cli.quiet()
    report = gpu_steps.Report(args.out, about(device, tiny))
    steps = gpu_plan.plan(sizes, device)
    plan = [step for step in steps if step.title not in report.done]
    seconds = sum(step.seconds for step in plan)
    for step in plan:
        print(f'  {step.title}: {step.seconds:.0f} s')
    print(
        f'{len(report.done)} done before, to do: these'
        f'{" and CIFAR-10" if data else ""}. On an H100 all of them would '
        f'take about {seconds / 60:.0f} minutes, a guess. This run takes '
        f'about {args.minutes} at most, what matters most first.\n',
        flush=True,
    )
    end = start + 60 * args.minutes
    report.run(plan, end - (30 * args.minutes if data else 0))
    if data:
        small = (4, 2, (1, 1), 1) if tiny else (64, 10, (5, 30))
        gpu_cifar.Comparison(data, how, *small).run(report, end)
    print(f'{len(report.left)} left out. All of it is in {args.out}.')


if __name__ == '__main__':
    cli.exit_on_bad_input(main)
