"""Score a checkpoint on the test set of a config.

Example: python tools/test.py configs/digits/kdna_maskrcnn_r18.py \\
    mmkdna://kdna_maskrcnn_r18_digits --show-dir shown
"""

from mmengine.registry import METRICS

from mmkdna import cli
from mmkdna.datasets import prepare_data


def main(argv: list[str] | None = None) -> None:
    parser = cli.config_parser(__doc__)
    add = parser.add_argument
    add('checkpoint', help='checkpoint file or address')
    cli.add_runner_arguments(parser)
    text = 'dump the predictions as a pickle'
    add('--out', metavar='FILE.pkl', help=text)
    text = 'draw the predictions into WORK_DIR/TIMESTAMP/SHOW_DIR'
    add('--show-dir', help=text)
    args = parser.parse_args(argv)
    if args.out and not args.out.endswith(('.pkl', '.pickle')):
        parser.error(f'--out {args.out}: expected a name that ends in .pkl')
    cli.check_checkpoint(args.checkpoint)
    cfg = cli.runner_config(args)
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
    runner = cli.build_runner(cfg)
    if args.out:
        # mmdet's own way of dumping encodes masks.
        mmdet = cfg.get('default_scope') == 'mmdet'
        dump = dict(type='DumpDetResults' if mmdet else 'DumpResults')
        dump = METRICS.build(dict(dump, out_file_path=args.out))
        runner.test_evaluator.metrics.append(dump)
    runner.test()


if __name__ == '__main__':
    cli.exit_on_bad_input(main)
