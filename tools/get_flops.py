"""Parameters and multiply-adds of configs, beside their plain twins.

Multiply-adds are those of one image's forward in testing: convolutions and
matrix products. A two-stage detector gets as many proposals as its test_cfg
allows, and masks for the first 100.

Example: python tools/get_flops.py configs/kdna_maskrcnn_r50.py
"""

from collections.abc import Sequence
from typing import NamedTuple

from mmengine.logging import MMLogger
from rich import box
from rich.console import Console
from rich.table import Table

from mmkdna.cli import (
    add_size_argument,
    config_parser,
    exit_on_bad_input,
    image_size,
    load_config,
    short_name,
)
from mmkdna.measure import (
    build_model,
    multiply_adds,
    plain_twin,
)


class Cost(NamedTuple):
    """Parameters and multiply-adds of a model."""

    parameters: int
    multiply_adds: int


def cost(cfg, size: tuple[int, int]) -> Cost:
    model = build_model(cfg)
    parameters = sum(p.numel() for p in model.parameters())
    return Cost(parameters, multiply_adds(model, size))


def cost_table(markdown: bool) -> Table:
    table = Table(box=box.MARKDOWN if markdown else box.SIMPLE)
    table.add_column('config', overflow='fold')
    table.add_column('input')
    for title in ('parameters, M', 'plain', '', 'multiply-adds, G', 'plain'):
        table.add_column(title, justify='right')
    return table


def main(argv: Sequence[str] | None = None) -> None:
    parser = config_parser(__doc__, several=True)
    add_size_argument(parser)
    parser.add_argument(
        '--markdown', action='store_true', help='print a Markdown table'
    )
    args = parser.parse_args(argv)
    # The table alone, not what is logged about each model that is built.
    MMLogger.get_current_instance().setLevel('ERROR')
    table = cost_table(args.markdown)
    for path in args.config:
        cfg = load_config(path, args.cfg_options)
        size = image_size(args, cfg)
        ours, plain = cost(cfg, size), cost(plain_twin(cfg), size)
        change = ours.parameters / plain.parameters - 1
        table.add_row(
            short_name(path),
            'x'.join(map(str, size)),
            f'{ours.parameters / 1e6:.2f}',
            f'{plain.parameters / 1e6:.2f}',
            f'{change:+.1%}',
            f'{ours.multiply_adds / 1e9:.3f}',
            f'{plain.multiply_adds / 1e9:.3f}',
        )
    # A Markdown table is for a file, however wide.
    Console(width=200 if args.markdown else None).print(table)


if __name__ == '__main__':
    exit_on_bad_input(main)
