"""What `interruptions.py` kills: commands, their processes, and a server."""

import contextlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from mmkdna.cli import exit_on_bad_input
from mmkdna.datasets.digit_scenes import write_scenes
from mmkdna.errors import BadInput
from mmkdna.measure.configs import build_model, twin_of
from mmkdna.zoo.store import obtain

ROOT = Path(__file__).parent.parent
CONFIG = """
_base_ = '{root}/configs/digits/kdna_r18.py'
data_root = 'scenes/'
digit_scenes = dict(root=data_root, num_train=24, num_val=6)
model = dict(
    backbone=dict(
        stem_channels=8, base_channels=8, conv_cfg=dict(min_channels=32)),
    head=dict(in_channels=64))
train_dataloader = dict(batch_size=16, dataset=dict(data_root=data_root))
val_dataloader = dict(batch_size=16, dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=3)
"""
BY_ITERATIONS = """
_base_ = './epochs.py'
train_dataloader = dict(sampler=dict(type='InfiniteSampler', shuffle=True))
train_cfg = dict(
    _delete_=True, type='IterBasedTrainLoop', max_iters=24, val_interval=8)
param_scheduler = dict(
    _delete_=True, type='LinearLR', start_factor=0.01, by_epoch=False, end=24)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=4))
log_processor = dict(by_epoch=False)
"""
DOWNLOAD = 24 << 20
"""Bytes of the file that is downloaded."""


def tool(name: str, *arguments: object) -> None:
    """Run a tool of this repository in this process."""
    path = ROOT / 'tools' / f'{name}.py'
    spec: Any = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main([str(a) for a in arguments])


def begin(
    command: Callable[[], None], folder: Path, log: str
) -> tuple[int, int]:
    """Run a command in a process of its own.

    It is forked, so that a kill falls into its work, not its imports.

    Returns:
        The number of the process, and a pipe from which a byte can be read
        each time it begins to write a file or folder.
    """
    pipe, told = os.pipe()
    pid = os.fork()
    if pid:
        os.close(told)
        return pid, pipe
    status = 1

    def tell(event: str, details: tuple) -> None:
        writes = event in ('open', 'os.mkdir')
        if writes and str(details[0]).endswith('.part'):
            os.write(told, b'.')
            # The one who kills may be waiting for the same core.
            os.sched_yield()

    try:
        os.setsid()
        os.chdir(folder)
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        sys.addaudithook(tell)
        exit_on_bad_input(lambda _: command())
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def finish(command: Callable[[], None], folder: Path, log: str) -> None:
    """Run a command in a process of its own to the end.

    Raises:
        BadInput: If it fails.
    """
    pid, pipe = begin(command, folder, log)
    _, status = os.waitpid(pid, 0)
    os.close(pipe)
    if status:
        tail = (folder / log).read_text()[-3000:]
        raise BadInput(f'a command fails: {tail}')


class Server(BaseHTTPRequestHandler):
    """Serves one file, with ranges."""

    body = b''

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        span = self.headers.get('Range')
        start = int(span.removeprefix('bytes=').rstrip('-')) if span else 0
        total = len(self.body)
        self.send_response(206 if start else 200)
        if start:
            spans = f'bytes {start}-{total - 1}/{total}'
            self.send_header('Content-Range', spans)
        self.send_header('Content-Length', str(total - start))
        self.end_headers()
        # The one who asks may be killed meanwhile.
        with contextlib.suppress(OSError):
            self.wfile.write(self.body[start:])


def serve(body: bytes) -> tuple[str, int]:
    """A server on loopback in a process of its own: its URL and number."""
    Server.body = body
    server = HTTPServer(('127.0.0.1', 0), Server)
    pid = os.fork()
    if not pid:
        server.serve_forever()
    server.server_close()
    return f'http://127.0.0.1:{server.server_port}/thing.bin', pid


def prepare(folder: Path) -> None:
    """Write what the commands start from: configs, data and weights."""
    (folder / 'epochs.py').write_text(CONFIG.format(root=ROOT))
    (folder / 'iterations.py').write_text(BY_ITERATIONS)

    def weights() -> None:
        cfg = Config.fromfile('epochs.py')
        write_scenes(**cfg.digit_scenes)
        for name, one in (('plain', twin_of(cfg)), ('kdna', cfg)):
            model = build_model(one)
            torch.save({'state_dict': model.state_dict()}, f'{name}.pth')

    finish(weights, folder, 'weights.log')


def fetch(url: str, expected: str) -> None:
    """Download the file of the server to the cache."""
    os.environ['MMKDNA_HOME'] = str(Path.cwd() / 'download' / 'out')
    obtain('thing.bin', expected, DOWNLOAD, (url,))
