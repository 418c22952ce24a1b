"""Show which convs of a config share a kernel, and what that saves.

Example: python tools/report.py configs/kdna_maskrcnn_r50.py
"""

from collections.abc import Sequence

from rich.console import Console

import mmkdna
from mmkdna import cli
from mmkdna.measure.configs import build_model
from mmkdna.measure.show import list_table


def main(argv: Sequence[str] | None = None) -> None:
    args = cli.config_parser(__doc__).parse_args(argv)
    model = build_model(cli.load_config(args.config, args.cfg_options))
    report = mmkdna.report(model)
    saved = report.plain_parameters - report.parameters
    table = list_table(
        f'The whole model: {report.parameters:,} parameters, '
        f'{report.plain_parameters:,} if it were plain: {saved:,} '
        f'({saved / report.plain_parameters:.1%}) saved by '
        f'{len(report.families)} families.',
        *('layer', 'role', "a child's parent", 'kernel'),
    )
    table.add_column('parameters', justify='right')
    for row in report.rows:
        table.add_row(
            row.name,
            row.role,
            row.parent,
            'x'.join(map(str, row.shape)),
            f'{row.parameters:,}',
            style={'parent': 'green', 'child': 'cyan'}.get(row.role),
        )
    Console().print(table)


if __name__ == '__main__':
    cli.exit_on_bad_input(main)
