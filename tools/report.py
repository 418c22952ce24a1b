"""Show which convs of a config share a kernel, and what that saves.

Example: python tools/report.py configs/kdna_maskrcnn_r50.py
"""

import mmkdna
from mmkdna import cli
from mmkdna.measure.configs import build_model
from mmkdna.measure.show import print_table, report_table


def main(argv: list[str] | None = None) -> None:
    args = cli.config_parser(__doc__).parse_args(argv)
    model = build_model(cli.load_config(args.config, args.cfg_options))
    print_table(report_table(mmkdna.report(model)))


if __name__ == '__main__':
    cli.exit_on_bad_input(main)
