"""Time conv types beside the plain convolution, in turns.

A ratio is a type's time over plain's in the same round.

Example: python tools/benchmark.py --backbone resnet50 --batch 8
"""

from collections.abc import Iterator
from functools import partial

from mmkdna import cli
from mmkdna.files import write_json
from mmkdna.measure import configs, rows, show, subjects


def targets(args) -> Iterator[tuple]:
    """Yield name, builder, input size and conv types of each target."""
    types = args.types or configs.CONV_TYPES
    if args.layer:
        name = 'layer ' + 'x'.join(map(str, args.layer))
        build = partial(subjects.layer_subject, args.layer)
        yield name, build, args.size, types
    if name := args.backbone:
        build = partial(subjects.backbone_subject, name)
        yield name, build, args.size or (224, 224), types
    for path in args.config:
        cfg = cli.load_config(path, args.cfg_options)
        build = partial(subjects.config_subject, cfg)
        size = args.size or configs.input_size(cfg)
        yield cli.short_name(path), build, size, args.types or ['KernelDNA']


def main(argv: list[str] | None = None) -> None:
    parser = cli.config_parser(__doc__, number='*')
    add, form = parser.add_argument, ('CINxCOUTxK', '256x256x3')
    add('--layer', type=cli.dimensions(*form), metavar=form[0], help='a conv')
    add('--backbone', help='a network of torchvision, such as resnet50')
    cli.add_timing_arguments(parser, 20, 2, 'all; of configs, their own')
    modes, text = subjects.MODES, 'default: the first two; step has optimizer'
    add('--modes', nargs='+', choices=modes, help=text)
    cli.add_device_argument(parser)
    add('--dtype', choices=subjects.DTYPES, default='float32', help='autocast')
    for flag, text in (
        ('--baked', 'bake and fuse BatchNorms first; forward only'),
        ('--saved', 'do not time; count what training saves for backward'),
        ('--markdown', 'print Markdown tables'),
    ):
        add(flag, action='store_true', help=text)
    text = 'file for the figures; experiments/draw_times.py draws it'
    add('--json', help=text)
    args = parser.parse_args(argv)
    if not (args.config or args.layer or args.backbone):
        parser.error('nothing to time: expected configs, --layer, --backbone')
    if args.layer and not args.size:
        parser.error('--layer: expected --size of its input, such as 50x84')
    if args.baked and (args.saved or set(args.modes or ()) - {'forward'}):
        parser.error('--baked: expected no other mode than forward')
    chosen = args.modes or modes[: 1 if args.baked else 2]
    cli.quiet()
    panels = {}
    for name, build, size, types in targets(args):
        how = subjects.Conditions(args.batch, size, args.device, args.dtype)
        built = rows.build_subjects(types, partial(build, how=how))
        if args.baked:
            name += ', baked and fused'
            for subject in filter(None, built.values()):
                subjects.bake_and_fuse(subject.model)
        for mode in ['saved'] if args.saved else chosen:
            found = rows.measured(built, mode, args.rounds, args.device)
            title = f'{name}, {mode}, {how}, {args.rounds} rounds'
            panels[title] = found
            table = show.figures_table(title, found, args.markdown)
            show.print_table(table, args.markdown)
            print()
    if args.json:
        write_json(panels, args.json)


if __name__ == '__main__':
    cli.exit_on_bad_input(main)
