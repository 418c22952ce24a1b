"""Score a checkpoint on the test set of a config.

Example: python tools/test.py configs/digits/kdna_maskrcnn_r18.py \\
    mmkdna://kdna_maskrcnn_r18_digits --show-dir shown
"""

from collections.abc import Sequence

from mmengine.evaluator import DumpResults

from mmkdna.cli import (
    add_runner_arguments,
    build_runner,
    check_checkpoint,
    config_parser,
    exit_on_bad_input,
    runner_config,
)
from mmkdna.datasets import prepare_data


def main(argv: Sequence[str] | None = None) -> None:
    parser = config_parser(__doc__)
    parser.add_argument('checkpoint', help='checkpoint file or address')
    add_runner_arguments(parser)
    parser.add_argument(
        '--out', metavar='FILE.pkl', help='dump the predictions as a pickle'
    )
    parser.add_argument(
        '--show-dir',
        help='draw the predictions into WORK_DIR/TIMESTAMP/SHOW_DIR',
    )
    args = parser.parse_args(argv)
    if args.out and not args.out.endswith(('.pkl', '.pickle')):
        parser.error(f'--out {args.out}: expected a name that ends in .pkl')
    check_checkpoint(args.checkpoint)

    cfg = runner_config(args)
    cfg.load_from = args.checkpoint
    if args.show_dir:
        if 'visualization' not in cfg.get('default_hooks', {}):
            parser.error(
                f'--show-dir: {args.config} has no '
                'default_hooks.visualization to draw with'
            )
        cfg.default_hooks.visualization.update(
            draw=True, test_out_dir=args.show_dir
        )
    prepare_data(cfg, ['test_dataloader'])
    runner = build_runner(cfg)
    if args.out:
        runner.test_evaluator.metrics.append(dump_metric(cfg, args.out))
    runner.test()


def dump_metric(cfg, out: str) -> DumpResults:
    """mmdet's own way of dumping encodes masks; the others' is mmengine's."""
    if cfg.get('default_scope') == 'mmdet':
        from mmdet.evaluation import DumpDetResults

        return DumpDetResults(out_file_path=out)
    return DumpResults(out_file_path=out)


if __name__ == '__main__':
    exit_on_bad_input(main)
