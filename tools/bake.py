"""Bake a checkpoint for inference: every layer with its own kernel.

The baked file has standard convolutions, and a gate before a child if its gate
is not 1. So tools that fuse, quantise or export plain layers work with it.
mmkdna.load_baked(model, DST) loads it into the model of the same config.

Example: python tools/bake.py mmkdna://kdna_retinanet_r18_digits \\
    configs/digits/kdna_retinanet_r18.py retinanet_baked.safetensors
"""

import os.path as osp

import mmkdna
from mmkdna import cli
from mmkdna.checkpoint import check_ending, write_weights
from mmkdna.errors import BadInput
from mmkdna.measure.configs import build_model
from mmkdna.zoo import local_path
from mmkdna.zoo.publish import prepare


def main(argv: list[str] | None = None) -> None:
    parser = cli.config_parser(__doc__, source=True)
    add = parser.add_argument
    add('dst', help='.safetensors or .pth file to write')
    add('--ema', action='store_true', help='bake the averages of EMAHook')
    add('--force', action='store_true', help='replace a file that exists')
    args = parser.parse_args(argv)
    cli.quiet()
    check_ending(args.dst)
    if osp.exists(args.dst) and not args.force:
        raise BadInput(
            f'{args.dst} exists: give another name, or --force to replace it'
        )
    cfg = cli.load_config(args.config, args.cfg_options)
    release = prepare(local_path(args.src), cfg, args.ema, half=False)
    model = build_model(cfg)
    model.load_state_dict(release.weights)
    own = sum(p.numel() for p in model.parameters())
    mmkdna.bake(model)
    note = {**release.notes, 'baked': 'true'}
    write_weights(model.state_dict(), args.dst, note)
    baked = sum(p.numel() for p in model.parameters())
    gates = sum(hasattr(layer, 'gate') for layer in model.modules())
    print(f'{args.dst}: {own:,} parameters, baked {baked:,}; {gates} gates')


if __name__ == '__main__':
    cli.exit_on_bad_input(main)
