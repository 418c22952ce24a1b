"""Show which convs of a config share a kernel, and what that saves.

Example: python tools/report.py configs/kdna_maskrcnn_r50.py
"""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

import mmkdna
from mmkdna.cli import config_parser, exit_on_bad_input, load_config
from mmkdna.report import Report
from mmkdna.measure import build_model


def report_table(report: Report) -> Table:
    """A row for each KernelDNA conv; below, the whole model."""
    saved = report.plain_parameters - report.parameters
    table = Table(
        box=None,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style='bold',
        caption_justify='left',
        caption=f'The whole model: {report.parameters:,} parameters, '
        f'{report.plain_parameters:,} if it were plain: {saved:,} '
        f'({saved / report.plain_parameters:.1%}) saved by '
        f'{len(report.families)} families.',
    )
    table.add_column('layer', overflow='fold')
    table.add_column('role')
    table.add_column("a child's parent", overflow='fold')
    table.add_column('kernel', overflow='fold')
    table.add_column('parameters', justify='right')
    colours = {'parent': 'green', 'child': 'cyan'}
    for row in report.rows:
        table.add_row(
            row.name,
            row.role,
            row.parent or '',
            'x'.join(map(str, row.shape)),
            f'{row.parameters:,}',
            style=colours.get(row.role),
        )
    return table


def main(argv: Sequence[str] | None = None) -> None:
    args = config_parser(__doc__).parse_args(argv)
    model = build_model(load_config(args.config, args.cfg_options))
    Console().print(report_table(mmkdna.report(model)))


if __name__ == '__main__':
    exit_on_bad_input(main)
