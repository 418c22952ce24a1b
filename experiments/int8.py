"""What int8 costs and brings: baked networks, by ONNX Runtime's quantiser.

For the digits' classifier and RetinaNet, this bakes the trained model, exports
its network (all but the post-processing) and quantises the file: static, QDQ,
a scale for each filter, calibrated on 64 training pictures. One table: sizes
of the files, scores on the validation pictures with the file in the network's
place, and processor times of one image on one core, median of turns.

    python experiments/int8.py
"""

import logging
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from io import StringIO
from itertools import islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from mmengine.config import Config
from onnxruntime import InferenceSession, SessionOptions
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    quant_pre_process,
    quantize_static,
)
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import mmkdna
from mmkdna.cli import build_runner, plain_parser
from mmkdna.datasets import prepare_data
from mmkdna.measure.runs import in_percent

CONFIGS = Path(__file__).parent.parent / 'configs' / 'digits'
MODELS = ('kdna_r18', 'kdna_retinanet_r18')
BATCHES, BATCH, ROUNDS = 8, 8, 30


class Network(nn.Module):
    """A model's network: from pixels to what its head computes."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.head = getattr(model, 'bbox_head', None) or model.head

    def forward(self, x: Tensor) -> Any:
        return self.head(self.model.extract_feat(x))

    def replace(self, session: InferenceSession) -> None:
        """Let a file compute in its place, in the whole model."""

        def head(x: Tensor) -> Any:
            found = session.run(None, {'image': x.numpy()})
            maps = [torch.from_numpy(array) for array in found]
            half = len(maps) // 2
            # A detector's classes and boxes, for each level.
            return (maps[:half], maps[half:]) if half else maps[0]

        self.model.extract_feat = lambda x: x
        self.head.forward = head


class Pictures(CalibrationDataReader):
    """What the network gets in training, batch by batch."""

    def __init__(self, runner: Any) -> None:
        self.inputs = self.read(runner)

    def read(self, runner: Any) -> Iterator[dict]:
        batches = runner.build_dataloader(runner.cfg.train_dataloader, seed=0)
        for data in islice(batches, BATCHES):
            data = runner.model.data_preprocessor(data)
            yield {'image': data['inputs'].numpy()}

    def get_next(self) -> dict | None:
        return next(self.inputs, None)


def session(path: str) -> InferenceSession:
    options = SessionOptions()
    options.intra_op_num_threads = 1
    return InferenceSession(path, options)


def trained(name: str, folder: str) -> Any:
    """A runner with the trained model, baked."""
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    cfg.load_from = f'mmkdna://{name}_digits'
    cfg.work_dir, cfg.log_level = folder, 'ERROR'
    cfg.train_dataloader.batch_size = BATCH
    prepare_data(cfg, ['train_dataloader', 'test_dataloader'])
    runner = build_runner(cfg)
    runner.load_or_resume()
    mmkdna.bake(runner.model).eval()
    return runner


def files(runner: Any, network: Network, folder: str) -> dict[str, str]:
    """The float file and the int8 file."""
    (first,) = islice(Pictures(runner).inputs, 1)
    paths = {k: f'{folder}/{k}.onnx' for k in ('float', 'folded', 'int8')}
    torch.onnx.export(
        network,
        (torch.from_numpy(first['image']),),
        paths['float'],
        dynamo=False,
        input_names=['image'],
        dynamic_axes={'image': {0: 'batch'}},
    )
    quant_pre_process(paths['float'], paths['folded'])
    quantize_static(
        paths.pop('folded'),
        paths['int8'],
        Pictures(runner),
        QuantFormat.QDQ,
        per_channel=True,
    )
    return paths


def times(sessions: dict[str, InferenceSession], image: Any) -> dict:
    """Milliseconds of one image, by name; median of turns.

    Of the processor, so that other programs matter less.
    """
    found: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(ROUNDS):
        for name, run in sessions.items():
            start = time.process_time()
            run.run(None, {'image': image})
            found[name].append(1000 * (time.process_time() - start))
    return {name: median(values) for name, values in found.items()}


def rows(name: str, folder: str) -> Iterator[list[str]]:
    with redirect_stdout(StringIO()):
        runner = trained(name, folder)
        network = Network(runner.model)
        scores = {'PyTorch': in_percent(runner.test())}
        paths = files(runner, network, folder)
        sessions = {kind: session(path) for kind, path in paths.items()}
        for kind, run in sessions.items():
            network.replace(run)
            scores[kind] = in_percent(runner.test())
        (first,) = islice(Pictures(runner).inputs, 1)
    took = times(sessions, first['image'][:1])
    for kind, found in scores.items():
        size, ms = '', ''
        if path := paths.get(kind):
            size = f'{os.path.getsize(path) / 1e6:.2f}'
            ms = f'{took[kind]:.2f}'
        metric = 'box AP' if 'box AP' in found else 'accuracy'
        yield [name, kind, size, f'{found[metric]:.2f} {metric}', ms]


def main(argv: Sequence[str] | None = None) -> None:
    plain_parser(__doc__).parse_args(argv)
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    warnings.simplefilter('ignore')
    # The quantiser says of each vector that it has one scale.
    logging.disable(logging.WARNING)
    table = Table()
    for title in ('model', 'file', 'MB', 'score', 'ms'):
        table.add_column(title, no_wrap=True)
    # One folder for all: mmengine's visualizer keeps the first.
    with TemporaryDirectory() as folder:
        for name in MODELS:
            for row in rows(name, folder):
                table.add_row(*row)
    Console(width=120).print(table)


if __name__ == '__main__':
    main()
