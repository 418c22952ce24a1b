"""Turn a checkpoint into a file of the zoo, and print its metafile.yml entry.

It writes NAME-HASH.safetensors without the optimizer's state. If the run's log
is beside the checkpoint, it writes NAME-HASH.log.json. --test scores these
weights on the config's test set, and adds the metrics to file and entry.

Example: python tools/publish_model.py work_dirs/demo/epoch_8.pth \\
    configs/digits/kdna_maskrcnn_r18.py weights --half --dataset digits --test
"""

import contextlib
import os.path as osp
import sys
import tempfile

from mmkdna import cli
from mmkdna.datasets import prepare_data
from mmkdna.files import write_bytes
from mmkdna.measure import complexity, configs
from mmkdna.measure.runs import in_percent
from mmkdna.zoo import local_path
from mmkdna.zoo.index import is_name
from mmkdna.zoo.publish import Release, prepare, publish

TASKS = dict(
    mmdet='Object Detection',
    mmseg='Semantic Segmentation',
    mmpretrain='Image Classification',
)


def tested(cfg, release: Release, args) -> dict:
    """Score the weights that are published; the entry of the metafile."""
    with tempfile.TemporaryDirectory() as folder:
        cfg.load_from = osp.join(folder, 'tested.safetensors')
        write_bytes(release.packed([]), cfg.load_from)
        cfg.work_dir = args.work_dir
        prepare_data(cfg, ['test_dataloader'])
        found = in_percent(cli.build_runner(cfg).test())
    metrics = {title: round(value, 3) for title, value in found.items()}
    task = TASKS[configs.library(cfg)]
    return dict(Task=task, Dataset=args.dataset, Metrics=metrics)


def main(argv: list[str] | None = None) -> None:
    parser = cli.config_parser(__doc__, source=True)
    add = parser.add_argument
    add('out', help='folder for the file')
    add('--name', help="name of the entry (default: the config's)")
    add('--ema', action='store_true', help='publish the averages of EMAHook')
    add('--half', action='store_true', help='save in float16, half the size')
    add('--dataset', help='training data, for the entry')
    add('--test', action='store_true', help='score it on the test set')
    add('--work-dir', default='work_dirs/publish', help='folder of the test')
    cli.add_size_argument(parser)
    args = parser.parse_args(argv)
    if args.test and not args.dataset:
        parser.error('--test needs --dataset, the name of the test data')
    # A log line in the entry would be no YAML.
    with contextlib.redirect_stdout(sys.stderr):
        cfg = cli.load_config(args.config, args.cfg_options)
        name = args.name or osp.basename(cli.short_name(args.config))
        if not is_name(name):
            parser.error(f'--name {name}: expected letters, digits, . - and _')
        release = prepare(local_path(args.src), cfg, args.ema, args.half)
        results = [tested(cfg, release, args)] if args.test else []
        size = args.size or configs.input_size(cfg)
        model = configs.build_model(cfg)
        metadata = {
            **({'Training Data': args.dataset} if args.dataset else {}),
            **release.training,
            'Parameters': complexity.parameters(model),
            'Multiply-adds': complexity.multiply_adds(model, (3, *size)),
            'Precision': 'float16' if args.half else 'float32',
        }
        entry = publish(release, args.out, name, metadata, results)
    print(entry)


if __name__ == '__main__':
    cli.exit_on_bad_input(main)
