"""Draw what a model finds in images: boxes, masks, segments or the top-5.

The pictures go to OUT_DIR/vis, under the names of the images.

Example: python tools/infer.py configs/digits/kdna_maskrcnn_r18.py \\
    mmkdna://kdna_maskrcnn_r18_digits data/digits/images/val/000000.png
"""

import os
import os.path as osp
from collections import Counter
from collections.abc import Sequence

import cv2
from mmengine.config import Config
from mmengine.device import get_device

from mmkdna.cli import (
    check_checkpoint,
    config_parser,
    exit_on_bad_input,
    load_config,
)
from mmkdna.errors import BadInput
from mmkdna.measure import library
from mmkdna.zoo import load_tensors_only

TOP = 5


def check_images(paths: Sequence[str]) -> None:
    """Refuse what is no image, and two that would get one name.

    Raises:
        FileNotFoundError: If a file does not exist.
        BadInput: If it is no image, or two have the same name.
    """
    for path in paths:
        if not osp.isfile(path):
            raise FileNotFoundError(
                f'image {path} does not exist, or is a folder'
            )
        if cv2.imread(path) is None:
            raise BadInput(
                f'{path}: expected an image that OpenCV reads, such as JPEG '
                'or PNG'
            )
    stems = Counter(osp.splitext(osp.basename(path))[0] for path in paths)
    name, count = stems.most_common(1)[0]
    if count > 1:
        raise BadInput(
            f'{count} images are named {name}, expected a name of its own '
            'for each picture in the output folder; draw them one by one'
        )


def draw_detections(
    cfg: Config, checkpoint: str, images: list[str], args
) -> None:
    from mmdet.apis import DetInferencer

    draw = DetInferencer(cfg, checkpoint, args.device, show_progress=False)
    draw(
        images,
        out_dir=args.out_dir,
        no_save_pred=True,
        pred_score_thr=args.threshold,
    )


def draw_segments(
    cfg: Config, checkpoint: str, images: list[str], args
) -> None:
    from mmseg.apis import MMSegInferencer

    draw = MMSegInferencer(cfg, checkpoint, device=args.device)
    draw.show_progress = False
    # Its own __call__ would write label maps, too, wherever it draws.
    super(MMSegInferencer, draw).__call__(
        images, img_out_dir=osp.join(args.out_dir, 'vis'), pred_out_dir=''
    )


def draw_classes(
    cfg: Config, checkpoint: str, images: list[str], args
) -> None:
    from mmpretrain.apis import ImageClassificationInferencer

    draw = ImageClassificationInferencer(cfg, checkpoint, args.device)
    samples = draw(images, return_datasamples=True)
    for sample in samples:
        best = sample.pred_score.topk(min(TOP, len(sample.pred_score)))
        # The visualizer writes a line for each predicted label.
        sample.set_pred_label(best.indices)
    folder = osp.join(args.out_dir, 'vis')
    os.makedirs(folder, exist_ok=True)
    draw.visualize(images, samples, show_dir=folder, resize=448)


DRAW = {
    'mmdet': draw_detections,
    'mmseg': draw_segments,
    'mmpretrain': draw_classes,
}


def main(argv: Sequence[str] | None = None) -> None:
    parser = config_parser(__doc__)
    parser.add_argument('checkpoint', help='checkpoint file or address')
    parser.add_argument('images', nargs='+', metavar='image')
    parser.add_argument(
        '--out-dir',
        default='outputs',
        help='where the pictures go (default: outputs)',
    )
    parser.add_argument(
        '--device',
        default=get_device(),
        help='such as cpu or cuda:0 (default: %(default)s)',
    )
    parser.add_argument(
        '--threshold',
        type=float,
        default=0.3,
        help='draw detections that score more (default: 0.3)',
    )
    args = parser.parse_args(argv)
    cfg = load_config(args.config, args.cfg_options)
    scope = library(cfg)
    check_checkpoint(args.checkpoint)
    check_images(args.images)
    load_tensors_only()
    DRAW[scope](cfg, args.checkpoint, args.images, args)
    for path in args.images:
        print(f'{path}: drawn in {osp.join(args.out_dir, "vis")}')


if __name__ == '__main__':
    exit_on_bad_input(main)
