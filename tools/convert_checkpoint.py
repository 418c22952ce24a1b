"""Convert a checkpoint to the KernelDNA model of a config, offline.

SRC is a plain or a KernelDNA checkpoint of the whole model or its backbone.
A child starts with its parent's kernel. The table has the relative distance
from its own kernel: 0 means nothing is lost, 1.4 an unrelated kernel.

Example: python tools/convert_checkpoint.py resnet50.pth \\
    configs/kdna_maskrcnn_r50.py kdna_resnet50.safetensors
"""

import mmkdna
from mmkdna import cli
from mmkdna.adoption.offline import adopt_weights
from mmkdna.checkpoint import check_ending, read_weights, write_weights
from mmkdna.measure.configs import build_model
from mmkdna.measure.show import new_table, print_table
from mmkdna.zoo import local_path


def main(argv: list[str] | None = None) -> None:
    parser = cli.config_parser(__doc__, source=True)
    parser.add_argument('dst', help='.safetensors or .pth file to write')
    args = parser.parse_args(argv)
    cli.quiet()
    check_ending(args.dst)
    cfg = cli.load_config(args.config, args.cfg_options)
    weights = read_weights(local_path(args.src))
    model = build_model(cfg)
    adopted = adopt_weights(model, weights)
    write_weights(adopted.weights, args.dst, {'config': cfg.pretty_text})
    table = new_table('child', 'parent', numbers=('off its own kernel',))
    for row in mmkdna.report(model.get_submodule(adopted.part)).rows:
        if row.name in adopted.lost:
            error = f'{adopted.lost[row.name]:.3f}'
            table.add_row(row.name, row.parent, error)
    if table.row_count:
        print_table(table)
    for title, names in (
        ('no place in the model', adopted.left_out),
        ('not in the checkpoint', adopted.missing),
    ):
        if names:
            print(f'{title}: {", ".join(names)}')
    numbers = sum(weight.numel() for weight in adopted.weights.values())
    part = adopted.part or 'the whole model'
    print(f'{args.dst}: {part}, {numbers:,} numbers')


if __name__ == '__main__':
    cli.exit_on_bad_input(main)
