"""What is timed: a layer, a network, or the model of a config."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from mmcv.cnn import build_conv_layer, fuse_conv_bn
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.optim import OptimWrapper, build_optim_wrapper
from torch import Tensor, nn

from ..deploy import bake
from ..errors import BadInput
from ..families import form_families, list_families
from ..peers.base import GEOMETRY
from .batch import synthetic_batch
from .complexity import multiply_adds
from .configs import build_model, twin_of

DTYPES = ('float32', 'bfloat16', 'float16')
MODES = ('forward', 'backward', 'step')


@dataclass(frozen=True)
class Conditions:
    """The conditions of a measurement.

    Args:
        batch: Number of images.
        size: Height and width of an image, in pixels.
        device: Where the model runs.
        dtype: Of autocast; ``float32`` is without it.
        channels_last: Whether weights and inputs have this memory format.
        backend: Of torch.compile; ``''`` is without it.

    Raises:
        BadInput: If this machine has no such device.
    """

    batch: int
    size: tuple[int, int]
    device: str = 'cpu'
    dtype: str = 'float32'
    channels_last: bool = False
    backend: str = ''

    def __post_init__(self) -> None:
        try:
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:
            raise BadInput(
                f'--device {self.device}: expected a device of this machine, '
                f'such as {get_device()} ({str(error).splitlines()[0]})'
            ) from error

    def place(self, module: Any) -> Any:
        """Move a module or an input to the device and the memory format."""
        module = module.to(self.device)
        if self.channels_last:
            many = isinstance(module, nn.Module)
            layout = dict(memory_format=torch.channels_last)
            for tensor in module.parameters() if many else [module]:
                # Some conv types have a parameter of five dimensions.
                if tensor.dim() == 4:
                    tensor.data = tensor.data.contiguous(**layout)
        return module

    def __str__(self) -> str:
        size = 'x'.join(map(str, self.size))
        words = [f'batch {self.batch}', size, self.device, self.dtype]
        words += ['channels last'] if self.channels_last else []
        if self.backend:
            other = self.backend != 'inductor'
            words += [f'compiled by {self.backend}' if other else 'compiled']
        return ', '.join(words)


@dataclass
class Subject:
    """A model to time, in three modes.

    ``forward`` is inference. ``backward`` is a training forward and its
    backward. ``step`` is both and the step of the optimizer.

    Args:
        model: The model.
        forward: Runs the model. With True it returns a scalar loss.
        multiply_adds: Multiply-adds of a forward of one image.
        how: The conditions.
        optimizer: The optimizer of ``step``.
    """

    model: nn.Module
    forward: Callable[[bool], Any]
    multiply_adds: int
    how: Conditions
    optimizer: OptimWrapper

    def run(self, mode: str) -> None:
        """Run a mode of MODES once; set the model to train or eval before."""
        if mode == 'forward':
            with torch.no_grad():
                self._autocast(False)
        elif mode == 'step':
            self.optimizer.update_params(self.loss())
        else:
            self.optimizer.zero_grad()
            self.loss().backward()

    def loss(self) -> Tensor:
        """Run a training forward, with gradients."""
        return self._autocast(True)

    def _autocast(self, training: bool) -> Any:
        dtype = getattr(torch, self.how.dtype)
        kind = torch.device(self.how.device).type
        with torch.autocast(kind, dtype, enabled=dtype != torch.float32):
            return self.forward(training)


def switch_convs(model: nn.Module, conv_cfg: dict | None) -> nn.Module:
    """Replace each ``nn.Conv2d`` of a network by a new layer of a conv type.

    The new layers have new weights; :func:`mmkdna.convert` keeps weights.

    Args:
        model: Changed in place.
        conv_cfg: The conv type; None changes nothing.

    Returns:
        The same model.

    Raises:
        BadInput: If ``conv_cfg`` has a wrong argument.
    """
    if conv_cfg is None:
        return model
    try:
        for name, conv in [*model.named_modules()]:
            if type(conv) is not nn.Conv2d:
                continue
            path, _, last = name.rpartition('.')
            geometry = {key: getattr(conv, key) for key in GEOMETRY}
            new = build_conv_layer(
                dict(conv_cfg), **geometry, bias=conv.bias is not None
            )
            setattr(model.get_submodule(path), last, new)
        form_families(model)
    except (ValueError, KeyError) as error:
        raise BadInput(f'{conv_cfg}: {error}') from error
    return model


def layer_subject(
    shape: tuple[int, int, int], conv_cfg: dict | None, how: Conditions
) -> Subject:
    """One of two convolutions of ``(C_in, C_out, k)``.

    With KernelDNA the two are a family. The child runs, and the parameters
    of both count.
    """
    cin, cout, k = shape
    pair = nn.Sequential(
        *(nn.Conv2d(cin, cout, k, padding=k // 2, bias=False) for _ in '12')
    )
    if conv_cfg is not None and conv_cfg['type'] == 'KernelDNA':
        least = min(cin, cout)
        conv_cfg = {'min_channels': least, 'kernel_sizes': [k], **conv_cfg}
    switch_convs(pair, conv_cfg)
    x = torch.randn(how.batch, cin, *how.size, requires_grad=True)
    return _subject(pair, '0', x, how)


def backbone_subject(
    name: str, conv_cfg: dict | None, how: Conditions
) -> Subject:
    """A classifier of torchvision, with another conv type.

    Args:
        name: Its name in torchvision, such as ``resnet50``.
        conv_cfg: As in :func:`switch_convs`.
        how: The conditions.

    Raises:
        BadInput: If torchvision is missing or has no such network.
    """
    try:
        from torchvision.models import get_model

        model = get_model(name, weights=None)
    except (ImportError, ValueError) as error:
        raise BadInput(
            f'--backbone {name}: torchvision has no such network, or is not '
            f'installed ({error}); expected one such as resnet50, or --layer, '
            'which needs torch and mmcv only'
        ) from error
    return network_subject(model, conv_cfg, how)


def network_subject(
    model: nn.Module, conv_cfg: dict | None, how: Conditions
) -> Subject:
    """A network of images ``(N, 3, H, W)``, with another conv type."""
    x = torch.randn(how.batch, 3, *how.size)
    return _subject(switch_convs(model, conv_cfg), '', x, how)


def _subject(
    model: nn.Module, part: str, x: Tensor, how: Conditions
) -> Subject:
    """A model of which one part runs; the part ``''`` is all of it."""
    count = multiply_adds(
        model, x.shape[1:], lambda net, y: net.get_submodule(part)(y)
    )
    net: Any = how.place(model).get_submodule(part)
    x = how.place(x).detach().requires_grad_(x.requires_grad)
    if how.backend:
        net = torch.compile(net, backend=how.backend)

    def forward(training: bool) -> Tensor:
        y: Tensor = net(x)
        return y.float().mean() if training else y

    return Subject(model, forward, count, how, sgd(model))


def bake_and_fuse(model: nn.Module) -> None:
    """The form that is shipped, in place: baked, no BatchNorm after a conv.

    Every child keeps its gate, as if it were trained.
    """
    if list_families(model):
        bake(model, gated=dict(model.named_modules()))
    fuse_conv_bn(model.eval())


def sgd(model: nn.Module) -> OptimWrapper:
    """SGD with momentum; its learning rate is too small to matter."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return OptimWrapper(torch.optim.SGD(trained, 1e-6, momentum=0.9))


def config_subject(
    cfg: Config,
    conv_cfg: dict | None,
    how: Conditions,
    batch: dict | None = None,
) -> Subject:
    """The model of a config, with another conv type.

    The optimizer of ``step`` is the config's, without mixed precision.

    Args:
        cfg: The config.
        conv_cfg: As in :func:`twin_of`.
        how: The conditions.
        batch: A batch of the config's dataloader; noise by default.
    """
    cfg = twin_of(cfg, conv_cfg)
    model: Any = how.place(build_model(cfg))
    if getattr(model.data_preprocessor, 'size', None) is not None:
        # It would pad each image to the size of the training crops.
        model.data_preprocessor.size = how.size
    batch = batch or synthetic_batch(cfg, how.batch, how.size)
    optimizer = cfg.optim_wrapper.to_dict()
    for key in ('type', 'loss_scale', 'dtype'):
        optimizer.pop(key, None)

    def forward(training: bool) -> Any:
        data = model.data_preprocessor(batch, training)
        data['inputs'] = how.place(data['inputs'])
        if not training:
            return model(**data, mode='tensor')
        return model.parse_losses(model(**data, mode='loss'))[0]

    wrapper = build_optim_wrapper(model, dict(optimizer, type='OptimWrapper'))
    count = multiply_adds(model, (3, *how.size))
    return Subject(model, forward, count, how, wrapper)
