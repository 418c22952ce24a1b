"""Time conv types against the plain convolution, in turns.

On a layer (--layer 256x256x3 --size 50x84), a classifier of torchvision
(--backbone resnet50) or the models of configs. Each round runs every type
once, in changing order; a ratio is a type's time over the plain one's in the
same round. With --json and --png it writes the figures and a picture, too.
With --saved it times nothing and counts what a forward in training keeps for
the backward, of a config by its model's own loss.

Example: python tools/benchmark.py --backbone resnet50 --batch 8
"""

import argparse
from collections.abc import Callable, Sequence

import torch
from mmengine.device import get_device
from mmengine.logging import MMLogger
from rich.console import Console
from rich.progress import track

from mmkdna.cli import (
    add_size_argument,
    config_parser,
    exit_on_bad_input,
    image_size,
    load_config,
    short_name,
)
from mmkdna.errors import BadInput
from mmkdna.files import write_json
from mmkdna.measure import (
    CONV_TYPES,
    MODES,
    PLAIN,
    Conditions,
    Subject,
    backbone_subject,
    config_subject,
    is_out_of_memory,
    layer_subject,
    parse_conv_type,
    saved_rows,
    timed_rows,
)
from mmkdna.measure.show import draw, saved_table, times_table

DTYPES = ('float32', 'bfloat16', 'float16')
Build = Callable[[dict | None, Conditions], Subject]


def arguments() -> argparse.ArgumentParser:
    parser = config_parser(__doc__, several=True, optional=True)
    parser.add_argument(
        '--layer',
        metavar='CINxCOUTxK',
        help='time one conv, such as 256x256x3, with --size of its input',
    )
    parser.add_argument(
        '--backbone', help='time a network of torchvision, such as resnet50'
    )
    parser.add_argument(
        '--types',
        nargs='+',
        metavar='TYPE',
        help='conv types, with arguments as in ODConv,experts=4; there are '
        f'{", ".join(CONV_TYPES)} (default: all; of configs, their own)',
    )
    parser.add_argument(
        '--modes',
        nargs='+',
        choices=MODES,
        default=['forward', 'backward'],
        metavar='MODE',
        help='what is timed: forward (inference), backward (forward in '
        'training, and backward), step (that and the optimizer) '
        '(default: forward backward)',
    )
    parser.add_argument(
        '--batch', type=int, default=2, help='images (default: 2)'
    )
    add_size_argument(parser)
    parser.add_argument(
        '--rounds', type=int, default=20, help='of each type (default: 20)'
    )
    parser.add_argument(
        '--device', default=get_device(), help='default: %(default)s'
    )
    parser.add_argument(
        '--dtype',
        choices=DTYPES,
        default='float32',
        help='bfloat16 and float16 by autocast (default: float32)',
    )
    parser.add_argument(
        '--channels-last',
        action='store_true',
        help='weights and inputs in channels-last memory format',
    )
    parser.add_argument(
        '--compile', action='store_true', help='by torch.compile'
    )
    parser.add_argument(
        '--saved',
        action='store_true',
        help='count what a forward in training keeps for the backward, in '
        'place of timing',
    )
    parser.add_argument(
        '--markdown', action='store_true', help='print Markdown tables'
    )
    parser.add_argument('--json', help='file to write the figures to')
    parser.add_argument('--png', help='file to draw the figures to')
    return parser


def check(args: argparse.Namespace) -> None:
    if args.rounds < 2 or args.batch < 1:
        raise BadInput(
            f'--rounds {args.rounds} --batch {args.batch}: expected at least '
            '2 rounds of at least 1 image'
        )
    if not (args.config or args.layer or args.backbone):
        raise BadInput(
            'nothing to time: expected configs, --layer or --backbone'
        )
    if args.saved and args.png:
        raise BadInput(
            '--saved --png: expected one of them, a picture has times'
        )
    try:
        torch.empty(0, device=args.device)
    except (RuntimeError, AssertionError) as error:
        raise BadInput(
            f'--device {args.device}: expected a device of this machine, such '
            f'as {get_device()} ({str(error).splitlines()[0]})'
        ) from error


def layer_shape(text: str) -> tuple[int, int, int]:
    parts = text.split('x')
    if len(parts) != 3 or not all(p.isdecimal() and int(p) for p in parts):
        raise BadInput(
            f'--layer {text}: expected CINxCOUTxK, such as 256x256x3'
        )
    cin, cout, k = map(int, parts)
    return cin, cout, k


def subjects(
    args: argparse.Namespace,
) -> list[tuple[str, Build, tuple[int, int], list[str]]]:
    """What is timed: its name, how it is built, its size, its types."""
    found: list[tuple[str, Build, tuple[int, int], list[str]]] = []
    types = args.types or [*CONV_TYPES]
    if args.layer:
        shape = layer_shape(args.layer)
        if args.size is None:
            raise BadInput(
                '--layer: expected --size of its input, such as 50x84'
            )
        found.append(
            (
                f'layer {args.layer}',
                lambda conv_cfg, how: layer_subject(conv_cfg, shape, how),
                args.size,
                types,
            )
        )
    if args.backbone:
        found.append(
            (
                args.backbone,
                lambda conv_cfg, how: backbone_subject(
                    conv_cfg, args.backbone, how
                ),
                args.size or (224, 224),
                types,
            )
        )
    for path in args.config:
        cfg = load_config(path, args.cfg_options)
        found.append(
            (
                short_name(path),
                lambda conv_cfg, how, cfg=cfg: config_subject(
                    conv_cfg, cfg, how
                ),
                image_size(args, cfg),
                args.types or ['KernelDNA'],
            )
        )
    return found


def build_all(
    types: Sequence[str], build: Build, how: Conditions
) -> dict[str, Subject | None]:
    built: dict[str, Subject | None] = {}
    for name in [PLAIN, *(t for t in types if t != PLAIN)]:
        try:
            built[name] = build(parse_conv_type(name), how)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            built[name] = None
    return built


def main(argv: Sequence[str] | None = None) -> None:
    args = arguments().parse_args(argv)
    # The tables alone, not what is logged about each model that is built.
    MMLogger.get_current_instance().setLevel('ERROR')
    check(args)
    for name in args.types or ():
        parse_conv_type(name)
    console = Console(width=200 if args.markdown else None)
    panels = {}
    for what, build, size, types in subjects(args):
        how = Conditions(
            args.batch,
            size,
            args.device,
            getattr(torch, args.dtype),
            args.channels_last,
            args.compile,
        )
        built = build_all(types, build, how)
        extras = [
            args.device,
            args.dtype,
            *(['channels last'] if args.channels_last else []),
            *(['compiled'] if args.compile else []),
        ]
        where = f'batch {args.batch}, {size[0]}x{size[1]}'
        how_else = ', '.join(extras)
        if args.saved:
            title = f'{what}, saved, {where}, {how_else}'
            panels[title] = saved_rows(built)
            console.print(saved_table(title, panels[title], args.markdown))
            continue
        for mode in track(
            args.modes,
            f'{what} ...',
            console=Console(stderr=True),
            transient=True,
        ):
            title = (
                f'{what}, {mode}, {where}, {args.rounds} rounds, {how_else}'
            )
            panels[title] = timed_rows(built, mode, args.rounds, args.device)
        for title in list(panels)[-len(args.modes) :]:
            gpu = torch.device(args.device).type == 'cuda'
            rows = panels[title]
            console.print(times_table(title, rows, args.markdown, gpu))
        del built
    if args.json:
        write_json(panels, args.json)
    if args.png:
        draw(panels, args.png)


if __name__ == '__main__':
    exit_on_bad_input(main)
