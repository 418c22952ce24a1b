"""Train a model of mmdetection, mmsegmentation or mmpretrain.

Example: python tools/train.py configs/digits/kdna_maskrcnn_r18.py
"""

from mmkdna import cli
from mmkdna.datasets import check_pretrained, prepare_data


def main(argv: list[str] | None = None) -> None:
    parser = cli.config_parser(__doc__)
    cli.add_runner_arguments(parser)
    add = parser.add_argument
    add('--amp', action='store_true', help='train in mixed precision')
    text = 'scale the learning rate with the batch size'
    add('--auto-scale-lr', action='store_true', help=text)
    text = 'resume from CHECKPOINT, or from the latest in the work dir'
    add('--resume', nargs='?', const='auto', metavar='CHECKPOINT', help=text)
    args = parser.parse_args(argv)
    cfg = cli.runner_config(args)
    if args.amp:
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.loss_scale = 'dynamic'
    if args.auto_scale_lr:
        if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
            parser.error(
                f'--auto-scale-lr: {args.config} has no '
                'auto_scale_lr.base_batch_size; set the batch size that its '
                'learning rate was chosen for'
            )
        cfg.auto_scale_lr.enable = True
    if args.resume is not None:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
    prepare_data(cfg, ['train_dataloader', 'val_dataloader'])
    check_pretrained(cfg)
    cli.build_runner(cfg).train()


if __name__ == '__main__':
    cli.exit_on_bad_input(main)
