"""Time training steps of configs against their plain twins, in turns.

Each round is a step of both on the same batch of noise, in changing order;
the ratio is KernelDNA's time over the plain twin's in the same round.

Example: python tools/benchmark.py configs/kdna_r50_in1k.py --batch 8
"""

import statistics
from collections.abc import Sequence

from mmengine.device import get_device
from mmengine.logging import MMLogger
from rich import box
from rich.console import Console
from rich.table import Table

from mmkdna.cli import config_parser, exit_on_bad_input, load_config
from mmkdna.measure import (
    Trainee,
    input_size,
    interleaved_steps,
    plain_twin,
    synthetic_batch,
)


def main(argv: Sequence[str] | None = None) -> None:
    parser = config_parser(__doc__, several=True)
    parser.add_argument(
        '--batch', type=int, default=2, help='images a step (default: 2)'
    )
    parser.add_argument(
        '--size',
        nargs=2,
        type=int,
        metavar=('HEIGHT', 'WIDTH'),
        help='of the images, in pixels (default: as the config tests)',
    )
    parser.add_argument(
        '--rounds', type=int, default=10, help='steps timed (default: 10)'
    )
    parser.add_argument(
        '--device', default=get_device(), help='default: %(default)s'
    )
    args = parser.parse_args(argv)
    # The table alone, not what is logged about each model that is built.
    MMLogger.get_current_instance().setLevel('ERROR')
    if args.rounds < 2 or args.batch < 1:
        parser.error('expected --rounds of at least 2, --batch of at least 1')
    table = Table(box=box.SIMPLE, caption_justify='left')
    table.caption = (
        f'{args.rounds} rounds on {args.device}, {args.batch} images a step; '
        'median (quartiles)'
    )
    for title in ('config', 'input', 's a step', 'plain', 'ratio'):
        table.add_column(title, overflow='fold')
    for path in args.config:
        cfg = load_config(path, args.cfg_options)
        size = tuple(args.size) if args.size else input_size(cfg)
        times = interleaved_steps(
            Trainee(cfg, args.device),
            Trainee(plain_twin(cfg), args.device),
            [synthetic_batch(cfg, args.batch, size)],
            args.rounds,
        )
        table.add_row(
            path.removeprefix('configs/').removesuffix('.py'),
            'x'.join(map(str, size)),
            f'{statistics.median(times.kernel_dna):.3f}',
            f'{statistics.median(times.plain):.3f}',
            str(times.ratio),
        )
    Console().print(table)


if __name__ == '__main__':
    exit_on_bad_input(main)
