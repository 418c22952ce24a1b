"""Convert a checkpoint to the KernelDNA model of a config, offline.

SRC is a plain checkpoint, of the whole model or of its backbone alone, or one
of KernelDNA. Children get adapters fitted to their kernels; what the fit
leaves stays as a residual, to fade in training (KernelFadeHook), or is
dropped with --drop-residual.

Example: python tools/convert_checkpoint.py resnet50.pth \\
    configs/kdna_maskrcnn_r50.py kdna_resnet50.safetensors
"""

from collections.abc import Sequence

from mmengine.logging import MMLogger
from rich import box
from rich.console import Console
from rich.table import Table

import mmkdna
from mmkdna.adoption.offline import adopt_weights
from mmkdna.checkpoint import (
    check_ending,
    read_weights,
    write_weights,
)
from mmkdna.cli import config_parser, exit_on_bad_input, load_config
from mmkdna.measure import build_model
from mmkdna.zoo import local_path


def main(argv: Sequence[str] | None = None) -> None:
    parser = config_parser(__doc__, source=True)
    parser.add_argument('dst', help='.safetensors or .pth file to write')
    parser.add_argument(
        '--drop-residual',
        action='store_true',
        help='leave out what the fit left, or a run that ended early',
    )
    args = parser.parse_args(argv)
    # The table says it.
    MMLogger.get_current_instance().setLevel('ERROR')
    check_ending(args.dst)
    cfg = load_config(args.config, args.cfg_options)
    weights = read_weights(local_path(args.src))
    model = build_model(cfg)
    mmkdna.keep_residuals(model)
    adopted = adopt_weights(model, weights)
    if args.drop_residual:
        adopted = adopted.without_residuals()
    write_weights(adopted.weights, args.dst, {'config': cfg.pretty_text})
    console = Console()
    table = Table(box=box.SIMPLE, caption_justify='left')
    for title in ('child', 'parent', 'error of the fit'):
        table.add_column(title, overflow='fold')
    for row in mmkdna.report(model.get_submodule(adopted.part)).rows:
        if row.fit_error is not None:
            table.add_row(row.name, row.parent, f'{row.fit_error:.3f}')
    if table.row_count:
        console.print(table)
    for title, names in (
        ('no place in the model', adopted.left_out),
        ('not in the checkpoint', adopted.missing),
    ):
        if names:
            console.print(f'{title}: {", ".join(names)}', soft_wrap=True)
    held = [name for name in adopted.weights if name.endswith('.residual')]
    console.print(
        f'{args.dst}: {adopted.part or "the whole model"}, '
        f'{sum(w.numel() for w in adopted.weights.values()):,} numbers, '
        + (
            f'{len(held)} residuals to fade'
            if held
            else 'pure KernelDNA, no residuals'
        ),
        soft_wrap=True,
    )


if __name__ == '__main__':
    exit_on_bad_input(main)
