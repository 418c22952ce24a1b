"""One process of test_distributed: DDP's gradients against one process's."""

import copy
import os

import torch
import torch.distributed as dist
from mmdet.utils import register_all_modules
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS

import mmkdna
from mmkdna.cli import leave_job

CONV_CFGS = (
    dict(type='KernelDNA', min_channels=64),
    dict(type='CondConv'),
    dict(type='DyConv'),
    dict(type='ODConv', norm='LN'),
    dict(type='KernelWarehouse', norm='LN'),
    dict(type='FDConv', experts=4, norm='LN'),
)


@MODELS.register_module()
class Net(BaseModel):
    """Backbone and neck of a detector with a loss over their maps."""

    def __init__(self, conv_cfg):
        super().__init__()
        self.backbone = MODELS.build(
            dict(
                type='ResNet',
                depth=18,
                base_channels=16,
                stem_channels=16,
                conv_cfg=conv_cfg,
            )
        )
        self.neck = MODELS.build(
            dict(
                type='FPN',
                in_channels=[16, 32, 64, 128],
                out_channels=64,
                num_outs=4,
                conv_cfg=conv_cfg,
            )
        )

    def forward(self, inputs, mode='loss'):
        maps = self.neck(self.backbone(inputs))
        return dict(loss=sum(m.square().mean() for m in maps))


def check(conv_cfg: dict, rank: int) -> None:
    """Gradients of half the images in each process, and of all in one."""
    torch.manual_seed(0)  # the same weights in both processes
    model = MODELS.build(
        dict(type='Net', conv_cfg=conv_cfg)
    ).train()  # norms in eval
    ours = conv_cfg['type'] == 'KernelDNA'
    assert (len(mmkdna.list_families(model)) > 3) == ours
    for name, parameter in model.named_parameters():
        if '.adapter.' in name or not ours:
            with torch.no_grad():
                parameter.add_(
                    torch.randn_like(parameter), alpha=0.1 if ours else 0.01
                )
    model.double()  # so that rounding is none
    alone = copy.deepcopy(model)
    images = torch.randn(4, 3, 64, 64).double()

    wrapped = MMDistributedDataParallel(model)
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.0))
    part = images[2 * rank : 2 * rank + 2]
    wrapped.train_step(dict(inputs=part), optimizer)
    # Had the step left a parameter out, this would raise.
    wrapped(part, mode='loss')['loss'].backward()

    alone.forward(images)['loss'].backward()
    for (name, mine), theirs in zip(
        model.named_parameters(), alone.parameters(), strict=True
    ):
        assert mine.grad is not None, name
        difference = (mine.grad - theirs.grad).norm()
        assert difference <= 1e-5 * (1 + theirs.grad.norm()), (name, conv_cfg)
        assert difference <= 1e-4 * theirs.grad.norm() + 1e-8, name
    print(f"rank {rank}: {conv_cfg['type']}'s gradients agree")


def check_accumulated(rank: int) -> None:
    """A step of two halves is one of the whole."""
    torch.manual_seed(0)
    whole = MODELS.build(dict(type='Net', conv_cfg=CONV_CFGS[0])).double()
    halves = copy.deepcopy(whole)
    images = torch.randn(8, 3, 64, 64).double()[4 * rank : 4 * rank + 4]
    for model, parts, count in (
        (whole, [images], 1),
        (halves, images.split(2), 2),
    ):
        wrapped = MMDistributedDataParallel(model.train())
        sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        optimizer = OptimWrapper(sgd, accumulative_counts=count)
        optimizer.initialize_count_status(model, 0, len(parts))
        for part in parts:
            with optimizer.optim_context(wrapped):
                loss = wrapped(part, mode='loss')['loss']
            optimizer.update_params(loss / 1)
    for name, parameter in halves.named_parameters():
        torch.testing.assert_close(parameter, whole.get_parameter(name))
    print(f'rank {rank}: accumulated steps agree')


def main() -> None:
    dist.init_process_group('gloo')
    rank, world = dist.get_rank(), dist.get_world_size()
    assert world == int(os.environ['WORLD_SIZE']) == 2
    register_all_modules(init_default_scope=True)

    for conv_cfg in CONV_CFGS:
        check(conv_cfg, rank)
    check_accumulated(rank)
    leave_job()


if __name__ == '__main__':
    main()
