"""Draw what a model finds in images: boxes, masks, segments or the top-5.

The pictures go to OUT_DIR/vis, under the names of the images.

Example: python tools/infer.py configs/digits/kdna_maskrcnn_r18.py \\
    mmkdna://kdna_maskrcnn_r18_digits data/digits/images/val/000000.png
"""

import os.path as osp

from mmkdna import cli
from mmkdna.measure.configs import library
from mmkdna.measure.pictures import draw_found
from mmkdna.zoo import load_tensors_only


def main(argv: list[str] | None = None) -> None:
    parser = cli.config_parser(__doc__)
    add = parser.add_argument
    add('checkpoint', help='checkpoint file or address')
    add('images', nargs='+', metavar='image')
    add('--out-dir', default='outputs', help='default: %(default)s')
    cli.add_device_argument(parser)
    text = 'draw detections that score above it (default: %(default)s)'
    add('--threshold', type=float, default=0.3, help=text)
    args = parser.parse_args(argv)
    cfg = cli.load_config(args.config, args.cfg_options)
    library(cfg)
    cli.check_checkpoint(args.checkpoint)
    load_tensors_only()
    how = args.out_dir, args.device, args.threshold
    draw_found(cfg, args.checkpoint, args.images, *how)
    for path in args.images:
        print(f'{path}: drawn in {osp.join(args.out_dir, "vis")}')


if __name__ == '__main__':
    cli.exit_on_bad_input(main)
