"""Choose which layers of a trained plain model share, by its loss.

It measures how much the loss on training batches rises when two layers share,
and joins those that cost least until the budget is met. It prints the
families and a line for the config, and draws the loss against the parameters.

Example: python tools/plan.py configs/digits/plain/maskrcnn_r18.py \\
    mmkdna://maskrcnn_r18_digits --budget -25% --min-channels 64
"""

import itertools
from functools import partial
from pathlib import Path

from mmengine.runner import Runner, load_checkpoint
from rich.progress import track

import mmkdna
from mmkdna import cli
from mmkdna.datasets import prepare_data
from mmkdna.measure.configs import build_model
from mmkdna.measure.plans import draw_plan, plan_table, training_loss
from mmkdna.measure.show import print_table
from mmkdna.zoo import load_tensors_only


def main(argv: list[str] | None = None) -> None:
    parser = cli.config_parser(__doc__)
    add, count = parser.add_argument, cli.at_least(1)
    add('checkpoint', help='of the plain model: a file or mmkdna://NAME')
    text = 'change of the parameters (default: -25%%)'
    add('--budget', type=cli.share, default=-0.25, help=text)
    text = 'training batches to measure on (default: %(default)s)'
    add('--batches', type=count, default=8, help=text)
    text = 'share only layers with as many channels (default: %(default)s)'
    add('--min-channels', type=count, default=256, help=text)
    text = 'share only k x k kernels with these k (default: all above 1)'
    add('--kernel-sizes', type=count, nargs='+', help=text)
    add('--linear', action='store_true', help='linear layers, too')
    add('--out', type=Path, default=Path('plan.png'), help='the picture')
    args = parser.parse_args(cli.joined('--budget', argv))
    cli.quiet()
    cfg = cli.load_config(args.config, args.cfg_options)
    prepare_data(cfg, ['train_dataloader'])
    load_tensors_only()
    model = build_model(cfg)
    load_checkpoint(model, args.checkpoint, 'cpu', strict=True)
    loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
    plan = mmkdna.plan(
        model,
        itertools.islice(loader, args.batches),
        training_loss,
        args.budget,
        args.linear,
        progress=partial(track, description='Measuring', transient=True),
        min_channels=args.min_channels,
        kernel_sizes=args.kernel_sizes,
    )
    draw_plan(plan, args.out)
    print_table(plan_table(plan))
    print(f'model = dict(kernel_dna={plan.conv_cfg!r})')
    print(f'The picture is {args.out}.')


if __name__ == '__main__':
    cli.exit_on_bad_input(main)
