"""From a checkpoint of a run to a file of the zoo, and its entry."""

import json
import os
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

from ..checkpoint import read_checkpoint, write_weights
from ..errors import BadInput
from ..families import list_families
from ..files import written_beside
from .download import sha256

DIGITS = 8
"""Of the SHA-256 in the name of a file."""


def notes_of(
    cfg: Config, model: nn.Module, more: Mapping[str, str]
) -> dict[str, str]:
    """What is saved with weights: safetensors' metadata.

    Args:
        cfg: The config of the model.
        model: The model, or the part of it that the weights are of.
        more: Other notes.
    """
    from .. import __version__

    families = [
        dict(
            parent=family.parent.name,
            children=[child.name for child in family.children],
        )
        for family in list_families(model)
    ]
    return {
        'config': cfg.pretty_text,
        'mmkdna_version': __version__,
        'mmengine_version': mmengine.__version__,
        'torch_version': torch.__version__,
        'families': json.dumps(families),
        **more,
    }


def published_weights(
    checkpoint: Mapping[str, Any], path: str, ema: bool
) -> dict[str, Tensor]:
    """The weights that are published of a checkpoint.

    Args:
        checkpoint: As mmengine saves it.
        path: Its name, for errors.
        ema: The averaged ones of ``EMAHook``, not those that were trained.

    Raises:
        BadInput: If there are none.
    """
    weights = checkpoint.get('state_dict')
    if not isinstance(weights, Mapping):
        raise BadInput(
            f'{path} has no state_dict; expected a checkpoint of a run'
        )
    averaged = checkpoint.get('ema_state_dict')
    if ema and averaged is None:
        raise BadInput(
            f'--ema: {path} has no averaged weights; its config needs '
            "custom_hooks=[dict(type='EMAHook')]"
        )
    if averaged is not None and not ema:
        # The hook has put the averaged ones in the place of the others.
        weights = {
            key: averaged.get(f'module.{key}', value)
            for key, value in weights.items()
        }
    return dict(weights)


def halved(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Floating-point weights as float16.

    Raises:
        BadInput: If one is too large for that.
    """
    half = {
        key: value.half() if value.is_floating_point() else value
        for key, value in weights.items()
    }
    for key, value in half.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise BadInput(f'--half: {key} is too large for float16')
    return half


@dataclass(frozen=True)
class Release:
    """What is published of a checkpoint.

    Args:
        weights: By name.
        notes: Saved with them, see :func:`notes_of`.
        training: How it was trained, for the entry: epochs, iterations, seed.
        log: What its run logged, a JSON object a line; empty where that does
            not lie beside the checkpoint.
    """

    weights: dict[str, Tensor]
    notes: dict[str, str]
    training: dict[str, Any]
    log: list[str]

    def write(self, path: str, results: list[dict[str, Any]]) -> None:
        """Write weights and notes, with the results of tests."""
        more = {'results': json.dumps(results)} if results else {}
        write_weights(self.weights, path, {**self.notes, **more})


def prepare(
    checkpoint: str, cfg: Config, ema: bool = False, half: bool = False
) -> Release:
    """Take from a checkpoint what is published.

    Args:
        checkpoint: Of a run.
        cfg: Its config.
        ema: Publish the averaged weights.
        half: In float16.

    Raises:
        BadInput: If it does not hold the whole model of the config, as the
            model itself saves it.
    """
    from ..measure import build_model
    from ..measure.runs import read_log

    loaded = read_checkpoint(checkpoint)
    weights = published_weights(loaded, checkpoint, ema)
    model = build_model(cfg)
    # Plain weights would load, too, but they are not those of this config.
    plain = [
        f'{child.name}.weight'
        for family in list_families(model)
        for child in family.children
        if f'{child.name}.weight' in weights
    ]
    if plain:
        raise BadInput(
            f'{checkpoint} is not of the model of {cfg.filename}: {plain[0]} '
            'is the kernel of a plain layer, where the model has a child'
        )
    try:
        missing, unexpected = model.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise BadInput(f'{checkpoint}: {error}') from None
    if missing or unexpected:
        raise BadInput(
            f'{checkpoint} is not of the model of {cfg.filename}: missing '
            f'{missing[:3]}, unexpected {unexpected[:3]}'
        )
    # By the names of now, should it be of an earlier version.
    weights = model.state_dict()
    meta = loaded.get('meta') or {}
    dataset_meta = meta.get('dataset_meta')
    more = {'dataset_meta': json.dumps(dataset_meta)} if dataset_meta else {}
    keys = {'Epochs': 'epoch', 'Iterations': 'iter', 'Seed': 'seed'}
    return Release(
        halved(weights) if half else weights,
        notes_of(cfg, model, more),
        {title: meta[key] for title, key in keys.items() if key in meta},
        read_log(Path(checkpoint).parent),
    )


def publish(
    release: Release, folder: str, name: str, results: list[dict[str, Any]]
) -> str:
    """Write the file of an entry, and the log of its run beside it.

    Args:
        release: What goes into it.
        folder: Where it goes.
        name: Of the entry.
        results: Task, data set and metrics of each test.

    Returns:
        The path of the file: the name, eight digits of the SHA-256.
    """
    beside = osp.join(folder, f'{name}.safetensors')
    release.write(beside, results)
    path = osp.join(folder, f'{name}-{sha256(beside)[:DIGITS]}.safetensors')
    os.replace(beside, path)
    if release.log:
        with written_beside(log_of(path)) as log:
            Path(log).write_text('\n'.join(release.log) + '\n')
    return path


def log_of(path: str) -> str:
    """Where the log of a published file is."""
    return path.removesuffix('safetensors') + 'log.json'


def entry_text(
    name: str,
    path: str,
    cfg: Config,
    metadata: Mapping[str, Any],
    results: list[dict[str, Any]],
) -> str:
    """The entry of a file, for a metafile.

    Args:
        name: Of the entry.
        path: Of the file.
        cfg: Its config.
        metadata: Training, parameters and the like.
        results: Task, data set and metrics of each test.
    """
    log = log_of(path)
    entry = {
        'Name': name,
        'In Collection': 'KernelDNA',
        'Config': osp.relpath(cfg.filename),
        'Metadata': {
            **metadata,
            **({'Training Log': osp.relpath(log)} if osp.isfile(log) else {}),
            'Size (bytes)': osp.getsize(path),
            'SHA-256': sha256(path),
        },
        'Results': results,
        'Weights': osp.relpath(path),
    }
    return yaml.safe_dump([entry], sort_keys=False, width=79)
