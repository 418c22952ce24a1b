"""What is timed: a layer, a network, or the model of a config."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from ..errors import BadInput
from .batch import synthetic_batch
from .complexity import counted, multiply_adds
from .switch import switch_convs
from .timing import Trainee
from .twin import switched


@dataclass(frozen=True)
class Conditions:
    """How something is run.

    Args:
        batch: Images.
        size: Height and width of the input, in pixels.
        device: Where.
        dtype: The dtype of autocast; float32 for none.
        channels_last: Whether weights and inputs are in that memory format.
        compile: Whether ``torch.compile`` makes it.
    """

    batch: int
    size: tuple[int, int]
    device: str = 'cpu'
    dtype: torch.dtype = torch.float32
    channels_last: bool = False
    compile: bool = False

    def place(self, module: Any) -> Any:
        """A module or input on the device and in the memory format."""
        memory_format = (
            torch.channels_last
            if self.channels_last
            else torch.contiguous_format
        )
        if isinstance(module, nn.Module):
            return module.to(  # type: ignore[call-overload]
                self.device, memory_format=memory_format
            )
        return module.to(self.device).contiguous(memory_format=memory_format)

    def autocast(self) -> torch.autocast:
        return torch.autocast(
            torch.device(self.device).type,
            self.dtype,
            enabled=self.dtype != torch.float32,
        )


class Subject:
    """Something to time, in three modes.

    ``forward`` is inference; ``backward`` a forward in training and its
    backward; ``step`` that and the optimizer's step.

    Args:
        model: Whose parameters count, and train.
        infer: A forward; returns anything.
        loss: A forward in training, to a scalar.
        multiply_adds: Of one image's forward.
        conditions: How it is run.
        optimizer: Of the ``step``; None for SGD with momentum.
    """

    def __init__(
        self,
        model: nn.Module,
        infer: Callable[[], object],
        loss: Callable[[], Tensor],
        multiply_adds: int,
        conditions: Conditions,
        optimizer: OptimWrapper | None = None,
    ) -> None:
        self.model = model
        self.parameters = sum(p.numel() for p in model.parameters())
        self.multiply_adds = multiply_adds
        self.conditions = conditions
        self._infer, self._loss = infer, loss
        trained = [p for p in model.parameters() if p.requires_grad]
        self._optimizer = optimizer or OptimWrapper(
            torch.optim.SGD(trained, 1e-6, momentum=0.9)
        )

    def prepare(self, mode: str) -> None:
        """Be in the mode, once before it is run several times."""
        nn.Module.train(self.model, mode != 'forward')

    def run(self, mode: str) -> None:
        """Once, in a mode of MODES."""
        if mode == 'forward':
            with torch.no_grad(), self.conditions.autocast():
                self._infer()
            return
        if mode == 'step':
            self._optimizer.update_params(self.loss())
            return
        self._optimizer.zero_grad()
        self.loss().backward()

    def loss(self) -> Tensor:
        """The forward in training, with gradients."""
        with self.conditions.autocast():
            return self._loss()


MODES = ('forward', 'backward', 'step')


def layer_subject(
    conv_cfg: dict | None, shape: tuple[int, int, int], how: Conditions
) -> Subject:
    """One conv, the first of two that are complete together.

    It counts the parameters of both, since a child has few of its own, and
    computes as the child that it is.

    Args:
        conv_cfg: The conv type; None for the plain one.
        shape: C_in, C_out and k.
        how: The conditions.
    """
    cin, cout, k = shape
    pair = nn.Sequential(
        *(nn.Conv2d(cin, cout, k, padding=k // 2, bias=False) for _ in '12')
    )
    if conv_cfg is not None and conv_cfg['type'] == 'KernelDNA':
        least = min(cin, cout)
        conv_cfg = dict(dict(min_channels=least, kernel_sizes=[k]), **conv_cfg)
    switch_convs(pair, conv_cfg)
    how.place(pair)
    x = how.place(torch.randn(how.batch, cin, *how.size))
    x.requires_grad_()
    layer: Any = torch.compile(pair[0]) if how.compile else pair[0]
    return Subject(
        pair,
        lambda: layer(x),
        lambda: layer(x).float().mean(),
        counted(pair, _first, x.shape[1:]),
        how,
    )


def _first(layers: nn.Module, x: Tensor) -> object:
    return next(layers.children())(x)


def backbone_subject(
    conv_cfg: dict | None, name: str, how: Conditions
) -> Subject:
    """A classifier of torchvision, its convs switched.

    Args:
        conv_cfg: The conv type; None for the plain network.
        name: As torchvision calls it, such as ``resnet50``.
        how: The conditions.

    Raises:
        BadInput: If torchvision is missing or has no such network.
    """
    try:
        from torchvision.models import get_model, list_models
    except ImportError as error:
        raise BadInput(
            f'--backbone {name}: expected torchvision, which has it, to be '
            f'installed ({error}); --layer needs torch and mmcv only'
        ) from error
    if name not in list_models():
        raise BadInput(
            f'--backbone {name}: torchvision has no such network; it has '
            + ', '.join(list_models(include='resnet*'))
            + ' and others'
        )
    model = how.place(switch_convs(get_model(name, weights=None), conv_cfg))
    x = how.place(torch.randn(how.batch, 3, *how.size))
    network: Any = torch.compile(model) if how.compile else model
    return Subject(
        model,
        lambda: network(x),
        lambda: network(x).float().mean(),
        counted(model, lambda net, y: net(y), x.shape[1:]),
        how,
    )


def config_subject(
    conv_cfg: dict | None, cfg: Config, how: Conditions
) -> Subject:
    """The model of a config; its ``step`` is with the config's optimizer.

    Args:
        conv_cfg: In the place of the config's KernelDNA; of the type
            ``KernelDNA`` alone, the config is as it is; None for plain.
        cfg: The config of a KernelDNA model.
        how: The conditions.
    """
    if conv_cfg != dict(type='KernelDNA'):
        cfg = switched(cfg, conv_cfg)
    trainee = Trainee(cfg, how.device)
    model = how.place(trainee.model)
    if getattr(model.data_preprocessor, 'size', None) is not None:
        # A segmentor's pads each image to the crop that it trains on.
        model.data_preprocessor.size = how.size
    batch = synthetic_batch(cfg, how.batch, how.size)

    def prepared(training: bool) -> dict:
        data = model.data_preprocessor(batch, training)
        data['inputs'] = how.place(data['inputs'])
        return data

    def loss() -> Tensor:
        losses = network(**prepared(True), mode='loss')
        total: Tensor = model.parse_losses(losses)[0]
        return total

    network: Any = torch.compile(model) if how.compile else model
    return Subject(
        model,
        lambda: network(**prepared(False), mode='tensor'),
        loss,
        multiply_adds(model, how.size),
        how,
        trainee.optimizer,
    )
