"""The plain network that a run started from, as a teacher of features."""

import copy
import os.path as osp
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..families import list_families


class FeatureTeacher:
    """Compare the shared stages of a backbone with the plain network's.

    The teacher is a copy of the backbone as it is now, in eval mode; it sees
    the inputs that the backbone sees while training. Call :meth:`close` when
    it has done its work.

    Args:
        backbone: A backbone with families and residuals, before the fade.
        state: State dict of the teacher of the run that this one resumes;
            None for the backbone as it is.
    """

    def __init__(self, backbone: nn.Module, state: dict | None = None):
        self.plain = copy.deepcopy(backbone).requires_grad_(False)
        if state is not None:
            self.plain.load_state_dict(state)
        # mmpretrain's backbones return None here.
        self.plain.eval()
        self.ours: list[Tensor] = []
        self.theirs: list[Tensor] = []
        self._handles = [backbone.register_forward_pre_hook(self._teach)]
        for name in shared_stages(backbone):
            for net, seen in (
                (backbone, self.ours),
                (self.plain, self.theirs),
            ):
                stage = net.get_submodule(name)
                self._handles.append(
                    stage.register_forward_hook(_recorder(backbone, seen))
                )

    def _teach(self, backbone: nn.Module, inputs: tuple) -> None:
        if backbone.training:
            with torch.no_grad():
                self.plain(*inputs)

    def loss(self) -> Tensor:
        """Squared distance of the features of the last forward.

        Of each stage relative to the energy of the teacher's, summed.
        """
        losses = [
            F.mse_loss(x.float(), y.float()) / y.float().square().mean()
            for x, y in zip(self.ours, self.theirs, strict=True)
        ]
        self.ours.clear()
        self.theirs.clear()
        return torch.stack(losses).sum()

    def close(self) -> None:
        """Leave the backbone as it was."""
        for handle in self._handles:
            handle.remove()


def _recorder(backbone: nn.Module, seen: list[Tensor]) -> Any:
    def record(stage: nn.Module, inputs: tuple, output: Tensor) -> None:
        if backbone.training:
            seen.append(output)

    return record


def shared_stages(backbone: nn.Module) -> list[str]:
    """Names of the modules whose output a family's kernels shape together.

    That is the sequence that holds a family, or the children where they have
    no sequence of their own.
    """
    names: dict[str, None] = {}
    for family in list_families(backbone):
        stage = osp.commonpath(
            [name.replace('.', '/') for name, _ in family.members]
        ).replace('/', '.')
        if stage and isinstance(backbone.get_submodule(stage), nn.Sequential):
            names[stage] = None
        else:
            names.update((child.name, None) for child in family.children)
    return list(names)
