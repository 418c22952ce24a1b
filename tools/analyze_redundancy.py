"""Measure which convs of a trained plain network could share a kernel.

CONFIG is the plain config or its KernelDNA twin, CHECKPOINT the plain
network's. For each stage: a table of the pairs that are most alike, a heat
map in OUT_DIR, and at the end the families that keep most of the kernels, as
a piece of a config.

Example: python tools/analyze_redundancy.py configs/digits/plain/r18.py \\
    mmkdna://r18_digits --conv-cfg min_channels=128 \\
    --images data/digits/crops/val/3
"""

import os
import os.path as osp
import re
from collections.abc import Iterator, Sequence

import matplotlib
import mmcv
import torch
from mmengine.config import Config, DictAction
from mmengine.logging import MMLogger
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor, nn

from mmkdna.adoption.redundancy import (
    Stage,
    compare,
    recommend,
    record,
    snippet,
    stages,
)
from mmkdna.checkpoint import read_weights
from mmkdna.cli import config_parser, exit_on_bad_input, load_config
from mmkdna.errors import BadInput
from mmkdna.layers import Policy
from mmkdna.measure import build_model, input_size, plain_twin
from mmkdna.zoo import local_path

matplotlib.use('Agg')
import matplotlib.pyplot as plt


def load_plain(cfg: Config, path: str) -> nn.Module:
    """The plain model with the weights of a plain checkpoint.

    Raises:
        BadInput: If the checkpoint is of another network.
    """
    model = build_model(plain_twin(cfg)).eval()
    weights = read_weights(local_path(path))
    try:
        result = model.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise BadInput(f'{path} does not fit the model: {error}') from None
    lacking = [k for k in result.missing_keys if k.endswith('.weight')]
    if lacking:
        raise BadInput(
            f'{path} has no {lacking[0]}, nor {len(lacking) - 1} more: '
            'expected a checkpoint of the plain network of this config'
        )
    return model


def read_images(folder: str, most: int) -> list[str]:
    """Paths of a folder's images.

    Raises:
        FileNotFoundError: If there is no such folder.
        BadInput: If it holds no images.
    """
    if not osp.isdir(folder):
        raise FileNotFoundError(f'--images {folder}: there is no such folder')
    paths = [
        osp.join(folder, name)
        for name in sorted(os.listdir(folder))
        if name.lower().endswith(('.jpg', '.jpeg', '.png', '.bmp', '.webp'))
    ]
    if not paths:
        raise BadInput(f'--images {folder}: expected JPEG or PNG images in it')
    return paths[:most]


def batches(
    paths: Sequence[str], model: nn.Module, size: tuple[int, int]
) -> Iterator[Tensor]:
    """Images as the model's preprocessor gives them, one by one."""
    for path in paths:
        image = mmcv.imread(path)
        if image is None:
            raise BadInput(f'{path} is no image that OpenCV reads')
        image = mmcv.imresize(image, size[::-1])
        tensor = torch.from_numpy(image).permute(2, 0, 1).contiguous()
        data = dict(inputs=[tensor], data_samples=None)
        yield model.data_preprocessor(data, False)['inputs']


def stage_table(stage: Stage, most: int) -> Table:
    table = Table(box=box.SIMPLE, title=stage.name, title_justify='left')
    table.add_column('first', overflow='fold')
    table.add_column('second', overflow='fold')
    for title in ('CKA', 'cosine', 'aligned', 'responses'):
        table.add_column(title, justify='right')
    ranked = sorted(stage.pairs, key=lambda p: p.explained, reverse=True)
    for pair in ranked[:most]:
        table.add_row(
            pair.first,
            pair.second,
            f'{pair.cka:.3f}',
            f'{pair.cosine:.3f}',
            f'{pair.aligned:.3f}',
            '' if pair.response is None else f'{pair.response:.3f}',
        )
    if len(ranked) > most:
        table.caption = f'{len(ranked) - most} more pairs in the heat map'
    return table


def draw(stage: Stage, path: str) -> None:
    """Heat maps of a stage's pairs, one for each measure."""
    measures = ['CKA of kernels', 'cosine', 'cosine, aligned']
    fields = ['cka', 'cosine', 'aligned']
    if all(pair.response is not None for pair in stage.pairs):
        measures.append('CKA of responses')
        fields.append('response')
    count = len(stage.convs)
    side = max(3.2, 0.45 * count + 1.6)
    figure, axes = plt.subplots(
        1,
        len(fields),
        figsize=(side * len(fields) + 2, side + 1),
        layout='constrained',
        squeeze=False,
    )
    index = {name: i for i, name in enumerate(stage.convs)}
    common = osp.commonprefix(list(stage.convs)).rpartition('.')[0]
    labels = [name.removeprefix(f'{common}.') for name in stage.convs]
    for i, (axis, title, field) in enumerate(
        zip(axes[0], measures, fields, strict=True)
    ):
        grid = torch.eye(count)
        for pair in stage.pairs:
            a, b = index[pair.first], index[pair.second]
            grid[a, b] = grid[b, a] = getattr(pair, field)
        shown = axis.imshow(grid, vmin=0, vmax=1, cmap='viridis')
        axis.set(title=title, xticks=range(count), yticks=range(count))
        axis.set_xticklabels(labels, rotation=90)
        axis.set_yticklabels(labels if i == 0 else [])
        for a in range(count if count <= 12 else 0):
            for b in range(count):
                value = float(grid[a, b])
                axis.text(
                    b,
                    a,
                    f'{value:.2f}',
                    ha='center',
                    va='center',
                    size=7,
                    color='black' if value > 0.6 else 'white',
                )
    figure.colorbar(shown, ax=list(axes[0]), shrink=0.8)
    figure.suptitle(stage.name)
    figure.savefig(path, dpi=100, bbox_inches='tight')
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> None:
    parser = config_parser(__doc__)
    parser.add_argument('checkpoint', help='checkpoint of the plain network')
    parser.add_argument(
        '--images', metavar='DIR', help='compare responses to its images too'
    )
    parser.add_argument(
        '--most', type=int, default=32, help='images used (default: 32)'
    )
    parser.add_argument(
        '--out',
        default='outputs/redundancy',
        help='where the heat maps go (default: %(default)s)',
    )
    parser.add_argument(
        '--family-size',
        type=int,
        default=2,
        help='members of a family that is recommended (default: 2)',
    )
    parser.add_argument(
        '--conv-cfg',
        nargs='+',
        action=DictAction,
        default={},
        metavar='KEY=VALUE',
        help='arguments of KernelDNA that say which convs are eligible, such '
        'as min_channels=128 kernel_sizes="[1]"',
    )
    args = parser.parse_args(argv)
    if args.family_size < 2 or args.most < 1:
        parser.error(
            'expected --family-size of 2 or more, --most of 1 or more'
        )
    MMLogger.get_current_instance().setLevel('ERROR')
    try:
        policy = Policy.from_conv_cfg(args.conv_cfg)
    except ValueError as error:
        raise BadInput(f'--conv-cfg: {error}') from None
    cfg = load_config(args.config, args.cfg_options)
    paths = read_images(args.images, args.most) if args.images else []
    model = load_plain(cfg, args.checkpoint)
    found = stages(model, policy)
    if not found:
        raise BadInput(
            f'no two convs of one stage could share a kernel under {policy}; '
            'see --conv-cfg'
        )
    os.makedirs(args.out, exist_ok=True)
    console = Console()
    with Progress(console=console, transient=True) as progress:
        names = [name for stage in found for name in stage.convs]
        images = progress.track(
            batches(paths, model, input_size(cfg)) if paths else (),
            total=len(paths),
            description='responses',
        )
        responses = record(model, names, model.extract_feat, images)
        count = sum(len(s.convs) * (len(s.convs) - 1) // 2 for s in found)
        task = progress.add_task('pairs', total=count)
        for stage in found:
            compare(model, stage, responses, lambda: progress.advance(task))
    for stage in found:
        console.print(stage_table(stage, 10))
        name = re.sub(r'[^\w.-]+', '_', stage.name)
        path = osp.join(args.out, f'{name}.png')
        draw(stage, path)
        console.print(f'{path}\n', soft_wrap=True)
    plan = [f for stage in found for f in recommend(stage, args.family_size)]
    console.print('The families that keep most of the kernels:\n')
    print(snippet(model, plan, **args.conv_cfg))


if __name__ == '__main__':
    exit_on_bad_input(main)
