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

CONV_CFG = dict(type='KernelDNA', min_channels=64)


@MODELS.register_module()
class Net(BaseModel):
    """Backbone and neck of a detector with a loss over their maps."""

    def __init__(self):
        super().__init__()
        self.backbone = MODELS.build(
            dict(type='ResNet', depth=18, conv_cfg=CONV_CFG)
        )
        self.neck = MODELS.build(
            dict(
                type='FPN',
                in_channels=[64, 128, 256, 512],
                out_channels=64,
                num_outs=4,
                conv_cfg=CONV_CFG,
            )
        )

    def forward(self, inputs, mode='loss'):
        maps = self.neck(self.backbone(inputs))
        return dict(loss=sum(m.square().mean() for m in maps))


def main() -> None:
    dist.init_process_group('gloo')
    rank, world = dist.get_rank(), dist.get_world_size()
    assert world == int(os.environ['WORLD_SIZE']) == 2
    register_all_modules(init_default_scope=True)

    torch.manual_seed(0)  # the same weights in both processes
    model = MODELS.build(dict(type='Net')).train()  # norms in eval
    assert len(mmkdna.list_families(model)) > 3
    for name, parameter in model.named_parameters():
        if '.adapter.' in name:
            with torch.no_grad():
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    alone = copy.deepcopy(model)
    images = torch.randn(4, 3, 64, 64)

    wrapped = MMDistributedDataParallel(model)
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.0))
    mine = images[2 * rank : 2 * rank + 2]
    wrapped.train_step(dict(inputs=mine), optimizer)
    # Had the step left a parameter out, this would raise.
    wrapped(mine, mode='loss')['loss'].backward()

    alone.forward(images)['loss'].backward()
    for (name, ours), theirs in zip(
        model.named_parameters(), alone.parameters(), strict=True
    ):
        assert ours.grad is not None, name
        difference = (ours.grad - theirs.grad).norm()
        assert difference <= 1e-5 * (1 + theirs.grad.norm()), name
        assert difference <= 1e-4 * theirs.grad.norm() + 1e-8, name
    print(f'rank {rank}: {len(list(model.parameters()))} gradients agree')
    dist.destroy_process_group()


if __name__ == '__main__':
    main()
