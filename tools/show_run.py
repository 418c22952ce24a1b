"""Draw what a finished detection run learned.

Writes WORK_DIR/predictions.png (ground truth beside prediction) and
WORK_DIR/curves.png (loss and average precision), and prints the scores.

Example: python tools/show_run.py work_dirs/demo
"""

from pathlib import Path

from mmkdna import cli
from mmkdna.datasets import prepare_data
from mmkdna.errors import BadInput
from mmkdna.measure.configs import library
from mmkdna.measure.pictures import draw_curves, draw_scenes
from mmkdna.measure.runs import find_run
from mmkdna.measure.show import new_table, print_table
from mmkdna.zoo import load_tensors_only


def main(argv: list[str] | None = None) -> None:
    parser = cli.plain_parser(__doc__)
    add, count = parser.add_argument, cli.at_least(1)
    add('work_dir', type=Path, help='the work dir of tools/train.py')
    add('--scenes', type=count, default=12, help='how many to draw (12)')
    text = 'draw only predictions that score above this (0.5)'
    add('--threshold', type=float, default=0.5, help=text)
    args = parser.parse_args(argv)
    cfg, checkpoint = find_run(args.work_dir)
    if library(cfg) != 'mmdet':
        raise BadInput(
            f'{cfg.filename} is a config of {library(cfg)}, expected one of '
            'mmdet: this draws boxes and masks; use tools/infer.py'
        )
    prepare_data(cfg, ['val_dataloader'])
    load_tensors_only()
    scenes = args.work_dir / 'predictions.png'
    draw_scenes(cfg, checkpoint, scenes, args.scenes, args.threshold)
    scores = draw_curves(args.work_dir, args.work_dir / 'curves.png')
    title = 'On the validation scenes, in percent'
    heads = next(iter(scores.values()))
    table = new_table('epoch', numbers=heads, title=title)
    for epoch, found in scores.items():
        table.add_row(str(epoch), *(f'{v:.1f}' for v in found.values()))
    print_table(table)
    print(
        f'Everything is in {args.work_dir}: predictions.png, curves.png, '
        f'{Path(checkpoint).name}. Next: python tools/report.py '
        'configs/kdna_maskrcnn_r50.py shows which convs share a kernel.'
    )


if __name__ == '__main__':
    cli.exit_on_bad_input(main)
