"""Make a file of the zoo and its entry from the checkpoint of a run."""

import hashlib
import json
import os.path as osp
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mmengine
import torch
import yaml
from mmengine.config import Config
from torch import Tensor, nn

from ..checkpoint import mapped, packed, read_checkpoint
from ..errors import BadInput
from ..families import list_families
from ..files import write_bytes, write_text
from ..measure.configs import build_model
from ..measure.runs import read_log
from ..version import __version__

Results = list[dict[str, Any]]
"""Task, data set and metrics of each test."""


def notes_of(
    cfg: Config, model: nn.Module, more: Mapping[str, str]
) -> dict[str, str]:
    """The metadata of a file with the weights of a model or of a part."""
    families = [
        dict(parent=parent.name, children=[child.name for child in children])
        for parent, children in list_families(model)
    ]
    return {
        'config': cfg.pretty_text,
        'mmkdna_version': __version__,
        'mmengine_version': mmengine.__version__,
        'torch_version': torch.__version__,
        'families': json.dumps(families),
        **more,
    }


@dataclass(frozen=True)
class Release:
    """What is published from a checkpoint.

    Args:
        config: Path of its config.
        weights: By name.
        notes: Saved with them, see :func:`notes_of`.
        training: How it was trained, for the entry: epochs, iterations, seed.
        log: Lines of the run's log; empty if there is no log beside the
            checkpoint.
    """

    config: str
    weights: dict[str, Tensor]
    notes: dict[str, str]
    training: dict[str, Any]
    log: list[dict[str, Any]]

    def packed(self, results: Results) -> bytes:
        """The file: weights and notes, with the results of tests."""
        more = {'results': json.dumps(results)} if results else {}
        return packed(self.weights, {**self.notes, **more})


def prepare(
    checkpoint: str, cfg: Config, ema: bool = False, half: bool = False
) -> Release:
    """Read a checkpoint and check it for a publication.

    Args:
        checkpoint: Path of the checkpoint of a run.
        cfg: Its config.
        ema: Publish the averaged weights of ``EMAHook``.
        half: Convert the weights to float16.

    Raises:
        BadInput: If the checkpoint is not of the whole model of the config;
            if ``ema`` finds no averaged weights, or ``half`` a number that is
            too large for float16.
    """
    loaded = read_checkpoint(checkpoint)
    weights, model = _trained(loaded, checkpoint, ema), build_model(cfg)
    wrong = f'{checkpoint} is not of the model of {cfg.filename}: '
    # Plain weights would load, too, but are not of this config.
    for family in list_families(model):
        for child in family.children:
            if (kernel := f'{child.name}.weight') in weights:
                raise BadInput(
                    f'{wrong}{kernel} is the kernel of a plain layer, where '
                    'the model has a child'
                )
    try:
        missing, unexpected = model.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise BadInput(f'{wrong}{error}') from None
    if missing or unexpected:
        raise BadInput(
            f'{wrong}missing {missing[:3]}, unexpected {unexpected[:3]}'
        )
    # With the names of this version: those of the file may be older.
    weights = model.state_dict()
    if half:
        weights = mapped(_halved, weights)
    meta = loaded.get('meta') or {}
    dataset_meta = meta.get('dataset_meta')
    more = {'dataset_meta': json.dumps(dataset_meta)} if dataset_meta else {}
    keys = {'Iterations': 'iter', 'Seed': 'seed'}
    # A loop of iterations counts no epochs, and stores 0.
    if meta.get('epoch'):
        keys = {'Epochs': 'epoch', **keys}
    return Release(
        cfg.filename,
        weights,
        notes_of(cfg, model, more),
        {title: meta[key] for title, key in keys.items() if key in meta},
        read_log(Path(checkpoint).parent),
    )


def _trained(
    checkpoint: Mapping[str, Any], path: str, ema: bool
) -> dict[str, Tensor]:
    """A run's weights, or with ``ema`` their averages."""
    weights = checkpoint.get('state_dict')
    if not isinstance(weights, Mapping):
        raise BadInput(
            f'{path} has no state_dict; expected a checkpoint of a run'
        )
    trained = checkpoint.get('ema_state_dict')
    if ema and trained is None:
        raise BadInput(
            f'--ema: {path} has no averaged weights; its config needs '
            "custom_hooks=[dict(type='EMAHook')]"
        )
    if ema or trained is None:
        return mapped(lambda _, value: value, weights)
    # The hook saves the averages as the state dict, and the weights that
    # were trained under the other name.
    return mapped(lambda k, v: trained.get(f'module.{k}', v), weights)


def _halved(name: str, value: Tensor) -> Tensor:
    if not value.is_floating_point():
        return value
    half = value.half()
    if not half.isfinite().all():
        raise BadInput(f'--half: {name} is too large for float16')
    return half


def publish(
    release: Release,
    folder: str,
    name: str,
    metadata: Mapping[str, Any],
    results: Results,
) -> str:
    """Write the file of an entry, and the log of its run beside it.

    The file is ``NAME-HASH.safetensors``, with 8 digits of its SHA-256.

    Args:
        release: What is published.
        folder: Folder for the file.
        name: Name of the entry.
        metadata: More for the entry: training data, parameters.
        results: Results of tests, for file and entry.

    Returns:
        The entry as YAML, for a metafile.
    """
    data = release.packed(results)
    digest = hashlib.sha256(data).hexdigest()
    path = osp.join(folder, f'{name}-{digest[:8]}.safetensors')
    write_bytes(data, path)
    about = dict(metadata)
    if release.log:
        log = path.removesuffix('safetensors') + 'log.json'
        lines = (f'{json.dumps(line)}\n' for line in release.log)
        write_text(''.join(lines), log)
        about['Training Log'] = osp.relpath(log)
    about |= {'Size (bytes)': len(data), 'SHA-256': digest}
    entry = {
        'Name': name,
        'In Collection': 'KernelDNA',
        'Config': osp.relpath(release.config),
        'Metadata': about,
        'Results': results,
        'Weights': osp.relpath(path),
    }
    return yaml.safe_dump([entry], sort_keys=False, width=79)
