"""One process of test_distributed: a detector trained by mmengine's runners.

Of each way to run, the weights after some steps are those of plain DDP.
"""

import copy
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from mmdet.structures import DetDataSample
from mmdet.utils import register_all_modules
from mmengine.hooks import Hook
from mmengine.hub import get_config
from mmengine.model import is_model_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import FlexibleRunner, Runner
from mmengine.structures import InstanceData
from torch import nn
from torch.utils.data import Dataset

import mmkdna
from mmkdna.cli import leave_job
from mmkdna.errors import BadInput
from mmkdna.health import KernelDNAHealthHook

# More steps, and a rounding decides which side of zero a ReLU is on.
STEPS, LR = 2, 0.03
# Without device_ids, which mmengine sets as if there were a GPU.
DDP = dict(type='MMDistributedDataParallel', device_ids=None)


class Noise(Dataset):
    """An image of noise, with a box for each of two levels."""

    metainfo = dict(classes=('a', 'b', 'c'))

    def __len__(self):
        return 16

    def __getitem__(self, i):
        noise = torch.Generator().manual_seed(i)
        sample = DetDataSample(
            metainfo=dict(
                img_shape=(64, 64), ori_shape=(64, 64), scale_factor=(1.0, 1.0)
            )
        )
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor([[8.0, 8, 40, 40], [2.0, 2, 62, 62]]),
            labels=torch.tensor([i % 3, 0]),
        )
        size = (3, 64, 64)
        image = torch.randint(255, size, generator=noise, dtype=torch.uint8)
        return dict(inputs=image, data_samples=sample)


def model_config(with_cp):
    cfg = get_config('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py')
    conv_cfg = dict(type='KernelDNA', min_channels=8)
    model = copy.deepcopy(cfg.model)
    model.backbone.update(
        base_channels=8,
        stem_channels=8,
        with_cp=with_cp,
        frozen_stages=-1,
        norm_cfg=dict(type='GN', num_groups=4),
        init_cfg=None,
        conv_cfg=conv_cfg,
    )
    model.neck.update(
        in_channels=[32, 64, 128, 256], out_channels=16, conv_cfg=conv_cfg
    )
    model.bbox_head.update(
        num_classes=3,
        in_channels=16,
        feat_channels=16,
        stacked_convs=2,
        conv_cfg=conv_cfg,
    )
    return model


def config(work_dir, with_cp=False, wrapper=None):
    # Runners draw numbers before or after they build the model.
    start = dict(type='Pretrained', checkpoint=start_file(work_dir))
    model = dict(model_config(with_cp), init_cfg=start)
    sgd = dict(type='SGD', lr=LR, momentum=0.9)
    return dict(
        model=model,
        work_dir=str(work_dir),
        default_scope='mmdet',
        train_cfg=dict(by_epoch=False, max_iters=STEPS),
        optim_wrapper=dict(type='OptimWrapper', optimizer=sgd),
        train_dataloader=dict(
            batch_size=2,
            dataset=Noise(),
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='pseudo_collate'),
        ),
        randomness=dict(seed=0),
        log_level='WARNING',
        cfg=dict(model_wrapper_cfg={**DDP, **(wrapper or {})}),
    )


def start_file(work_dir):
    return f'{work_dir}/start{dist.get_rank()}.pth'


def write_start(work_dir):
    """Every run starts from these weights; all get a gradient."""
    torch.manual_seed(0)
    model = MODELS.build(model_config(False))
    model.init_weights()
    for name, parameter in model.named_parameters():
        if not name.endswith('.weight') or 'retina_cls' in name:
            continue
        if parameter.dim() == 1:
            nn.init.ones_(parameter)
        else:
            gain = 1 if name.startswith('backbone') else 0.5
            std = gain * (2 / parameter[0].numel()) ** 0.5
            nn.init.normal_(parameter, std=std)
    torch.save(model.state_dict(), start_file(work_dir))
    return model.state_dict()


class PlantNaN(Hook):
    """In every process; one that stops alone leaves the others waiting."""

    priority = 'HIGHEST'

    def __init__(self, name):
        self.name = name

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        runner.model.module.get_parameter(self.name).data.fill_(torch.nan)


def weights(model):
    inner = model.module if is_model_wrapper(model) else model
    return {k: v.clone() for k, v in inner.state_dict().items()}


def run(work_dir, hooks=(), runner=Runner, **changes):
    """Train, and return the runner."""
    own = {k: changes.pop(k) for k in ('strategy',) if k in changes}
    cfg = config(work_dir, **changes)
    if runner is FlexibleRunner:
        del cfg['cfg']
    made = runner(
        **cfg,
        **own,
        launcher='pytorch',
        custom_hooks=list(hooks),
        env_cfg=dict(dist_cfg=dict(backend='gloo')),
        experiment_name=f'run{dist.get_rank()}{len(DONE)}',
    )
    made.train()
    return made


DONE = []


def agrees(name, found, expected):
    assert list(found) == list(expected), name
    for key, value in expected.items():
        torch.testing.assert_close(
            found[key], value, rtol=1e-4, atol=2e-6, msg=f'{name}: {key}'
        )
    DONE.append(name)
    print(f'rank {dist.get_rank()}: {name}', flush=True)


def main(work_dir):
    torch.set_num_threads(1)
    dist.init_process_group('gloo')
    register_all_modules()
    init_default_scope('mmdet')

    start = write_start(work_dir)
    ddp = run(work_dir)
    families = len(mmkdna.list_families(ddp.model))
    assert families >= 8
    expected = weights(ddp.model)
    filters = [name for name in expected if name.endswith('static.filter')]
    assert len(filters) == families
    # They move by far more than what counts as equal.
    moved = [(expected[n] - start[n]).abs().max().item() for n in filters]
    assert min(moved) > 1e-4, moved

    static = dict(static_graph=True)
    found = run(work_dir, with_cp=True, wrapper=static)
    agrees('with_cp and a static graph', weights(found.model), expected)
    unused = dict(find_unused_parameters=True)
    found = run(work_dir, wrapper=unused)
    agrees('find_unused_parameters', weights(found.model), expected)

    health = KernelDNAHealthHook(interval=1, stop=True)
    found = run(work_dir, hooks=[health])
    agrees('the health hook', weights(found.model), expected)
    if dist.get_rank() == 0:
        log = Path(found.visualizer._vis_backends['LocalVisBackend']._save_dir)
        lines = (log / 'scalars.json').read_text()
        for family in mmkdna.list_families(found.model.module):
            key = f'"kernel_dna/{family.parent.name}/filter_norm"'
            assert lines.count(key) == STEPS, key
    with pytest.raises(BadInput, match=rf'values in {filters[0]}\. '):
        run(work_dir, hooks=[PlantNaN(filters[0]), health])
    print(f'rank {dist.get_rank()}: a NaN', flush=True)

    # mmengine's FSDP; what it gathers has the keys of a plain run.
    whole = dict(type='whole_families', min_num_params=1000)
    fsdp = dict(
        type='FSDPStrategy',
        model_wrapper=dict(
            type='MMFullyShardedDataParallel',
            auto_wrap_policy=whole,
            use_orig_params=True,
            device_id=torch.device('cpu'),
        ),
        # mmengine's 'full' crashes on a CPU: it offloads to it.
        state_dict_cfg=dict(
            state_dict_type='FULL_STATE_DICT',
            state_dict_config=dict(type='FullStateDictConfig'),
            optim_state_dict_config=dict(type='FullOptimStateDictConfig'),
        ),
    )
    found = run(work_dir, runner=FlexibleRunner, strategy=fsdp)
    state = found.strategy.model_state_dict()
    if dist.get_rank() == 0:
        agrees('FSDPStrategy', state, expected)
    leave_job()


if __name__ == '__main__':
    main(sys.argv[1])
