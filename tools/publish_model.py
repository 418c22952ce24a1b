"""Make a checkpoint a file of the zoo, and print its entry.

The optimizer's state stays behind. The file is called NAME-HASH.safetensors,
and the log of the run, where it is beside the checkpoint, NAME-HASH.log.json.
With --test they are scored on the config's test set, as tools/test.py does,
and the file and its entry, which goes into a metafile.yml, have the metrics.

Example: python tools/publish_model.py work_dirs/demo/epoch_8.pth \\
    configs/digits/kdna_maskrcnn_r18.py weights --half --dataset digits --test
"""

import os.path as osp
import tempfile
from collections.abc import Sequence

from mmkdna.cli import (
    add_size_argument,
    build_runner,
    config_parser,
    exit_on_bad_input,
    image_size,
    load_config,
    short_name,
)
from mmkdna.datasets import prepare_data
from mmkdna.errors import BadInput
from mmkdna.measure import build_model, library, multiply_adds
from mmkdna.measure.runs import SCORES
from mmkdna.zoo import local_path
from mmkdna.zoo.index import is_name
from mmkdna.zoo.publish import entry_text, prepare, publish

TASKS = {
    'mmdet': 'Object Detection',
    'mmseg': 'Semantic Segmentation',
    'mmpretrain': 'Image Classification',
}


def scores(cfg, path: str, work_dir: str) -> dict[str, float]:
    """The metrics of a file, in percent."""
    cfg.load_from = path
    cfg.work_dir = work_dir
    prepare_data(cfg, ['test_dataloader'])
    found = build_runner(cfg).test()
    return {
        title: round(factor * float(found[key]), 3)
        for key, (title, factor) in SCORES.items()
        if key in found
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = config_parser(__doc__, source=True)
    parser.add_argument('out', help='folder of the file')
    parser.add_argument(
        '--name', help='of the entry (default: that of the config)'
    )
    parser.add_argument(
        '--ema',
        action='store_true',
        help='the averaged weights of EMAHook, not those that were trained',
    )
    parser.add_argument(
        '--half', action='store_true', help='in float16, half the size'
    )
    parser.add_argument(
        '--dataset', help='what it was trained on, for the entry'
    )
    parser.add_argument(
        '--test',
        action='store_true',
        help="score it on the config's test set",
    )
    parser.add_argument(
        '--work-dir',
        default='work_dirs/publish',
        help='of the test (default: work_dirs/publish)',
    )
    add_size_argument(parser)
    args = parser.parse_args(argv)
    if args.test and not args.dataset:
        parser.error(
            '--test needs --dataset: the entry says what a score is of'
        )
    cfg = load_config(args.config, args.cfg_options)
    name = args.name or osp.basename(short_name(args.config))
    if not is_name(name):
        raise BadInput(
            f'--name {name}: expected letters, digits, dots, dashes and '
            'underscores'
        )
    release = prepare(local_path(args.src), cfg, args.ema, args.half)
    results = []
    if args.test:
        # Of the very weights that are published.
        with tempfile.TemporaryDirectory() as folder:
            tested = osp.join(folder, f'{name}.safetensors')
            release.write(tested, [])
            metrics = scores(cfg, tested, args.work_dir)
        results.append(
            {
                'Task': TASKS[library(cfg)],
                'Dataset': args.dataset,
                'Metrics': metrics,
            }
        )
    path = publish(release, args.out, name, results)
    model = build_model(cfg)
    metadata = {
        **({'Training Data': args.dataset} if args.dataset else {}),
        **release.training,
        'Parameters': sum(p.numel() for p in model.parameters()),
        'Multiply-adds': multiply_adds(model, image_size(args, cfg)),
        'Precision': 'float16' if args.half else 'float32',
    }
    print(entry_text(name, path, cfg, metadata, results))


if __name__ == '__main__':
    exit_on_bad_input(main)
