"""Write CIFAR-10, given as JPEG bytes in arrays, as images in class folders.

SRC holds cifar10_train.npz and cifar10_test.npz, each with the arrays jpeg,
offsets and labels. docs/cifar_r18.py trains on what this writes.

Example: python docs/unpack_cifar.py SRC data/cifar10 --train 5000
"""

import argparse
from pathlib import Path

import numpy as np
from rich.progress import track


def unpack(source: Path, folder: Path, count: int) -> None:
    """Some images, as many of each class as chance has it."""
    data = np.load(source)
    starts, jpeg, labels = data['offsets'], data['jpeg'], data['labels']
    chosen = np.random.default_rng(0).permutation(len(labels))[:count]
    for label in np.unique(labels):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
    for i in track(chosen, f'Writing {folder}', transient=True):
        image = folder / str(labels[i]) / f'{i:05}.jpg'
        image.write_bytes(jpeg[starts[i] : starts[i + 1]].tobytes())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('src', type=Path, help='folder of the two .npz files')
    parser.add_argument('dst', type=Path, help='folder to write to')
    parser.add_argument(
        '--train', type=int, default=5000, help='training images'
    )
    parser.add_argument('--test', type=int, default=2000, help='test images')
    args = parser.parse_args()
    for split, count in (('train', args.train), ('test', args.test)):
        unpack(args.src / f'cifar10_{split}.npz', args.dst / split, count)


if __name__ == '__main__':
    main()
