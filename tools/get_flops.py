"""Parameters and multiply-adds of configs, beside their plain twins.

Multiply-adds are those of one image's forward in testing: convolutions and
matrix products. A two-stage detector gets as many proposals as its test_cfg
allows, and masks for the first 100.

Example: python tools/get_flops.py configs/kdna_maskrcnn_r50.py
"""

from mmkdna import cli
from mmkdna.measure.complexity import multiply_adds, parameters
from mmkdna.measure.configs import build_model, input_size, twin_of
from mmkdna.measure.show import new_table, print_table


def main(argv: list[str] | None = None) -> None:
    parser = cli.config_parser(__doc__, number='+')
    cli.add_size_argument(parser)
    text = 'print a Markdown table'
    parser.add_argument('--markdown', action='store_true', help=text)
    args = parser.parse_args(argv)
    cli.quiet()
    numbers = 'parameters, M', 'plain', '', 'multiply-adds, G', 'plain'
    markdown = args.markdown
    table = new_table('config', 'input', numbers=numbers, markdown=markdown)
    for path in args.config:
        cfg = cli.load_config(path, args.cfg_options)
        size = args.size or input_size(cfg)
        image = (3, *size)
        ours, plain = build_model(cfg), build_model(twin_of(cfg))
        counts = parameters(ours), parameters(plain)
        table.add_row(
            cli.short_name(path),
            'x'.join(map(str, size)),
            *(f'{count / 1e6:.2f}' for count in counts),
            f'{counts[0] / counts[1] - 1:+.1%}',
            f'{multiply_adds(ours, image) / 1e9:.3f}',
            f'{multiply_adds(plain, image) / 1e9:.3f}',
        )
    print_table(table, markdown)


if __name__ == '__main__':
    cli.exit_on_bad_input(main)
