"""What can be no member, and why: others read or fuse its weight."""

import copy

import pytest
import torch
from helpers import CONV_CFG
from mmcv.cnn import ConvModule
from mmengine.model.efficient_conv_bn_eval import (
    turn_on_efficient_conv_bn_eval,
)
from mmengine.registry import MODELS
from torch import nn

import mmkdna
from mmkdna.families import mark, sites


def uneven(model):
    """Move the norms from their start, where fusing changes nothing."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
    model.eval()
    return model


def families(model):
    return [str(family) for family in mmkdna.form_families(model)]


def marked(*layers, **settings):
    model = nn.Sequential(*layers)
    mark(model, min_channels=16, **settings)
    return model


def convs(count):
    return [nn.Conv2d(16, 16, 3) for _ in range(count)]


def test_sites_are_the_marked_layers_in_order_of_depth():
    model = marked(*convs(2))
    model.append(nn.Conv2d(16, 16, 3))
    found = sites(model)
    assert [site.name for site in found] == ['0', '1']
    assert [site.layer for site in found] == list(model[:2])
    assert {site.stages for site in found} == {(('', id(model)),)}


@pytest.mark.parametrize(('out', 'count'), [(6, 0), (7, 1)])
def test_an_adapter_as_large_as_its_kernel_saves_nothing(out, count):
    """One of ``out + 6`` parameters for a kernel of ``2 * out``."""
    model = nn.Sequential(*(nn.Conv2d(2, out, 1) for _ in '12'))
    settings = dict(min_channels=1, kernel_sizes=[1], reduction=2, norm=None)
    mark(model, **settings)
    assert len(families(model)) == count


def test_a_normed_weight_keeps_its_layer_out():
    model = nn.Sequential(
        *(
            ConvModule(16, 16, 3, conv_cfg=CONV_CFG, with_spectral_norm=i < 2)
            for i in range(4)
        )
    )
    assert families(model) == ['2.conv <- 3.conv']


def test_a_tied_weight_keeps_its_layers_out():
    model = marked(*convs(4))
    model[0].weight = model[1].weight
    assert families(model) == ['2 <- 3']
    assert model[0].weight is model[1].weight
    model = marked(*convs(2))
    model[0].weight = model[1].weight
    assert sites(model)[0].obstacle == 'its weight is shared already'


def test_a_subclass_of_conv2d_is_not_marked():
    class Scaled(nn.Conv2d):
        """Does something else with its weight."""

    model = marked(Scaled(16, 16, 3), *convs(2))
    assert families(model) == ['1 <- 2']


@pytest.mark.parametrize(
    ('reader', 'inputs'),
    [
        (nn.TransformerEncoderLayer(16, 2, 16, batch_first=True), 1),
        (nn.MultiheadAttention(16, 2, batch_first=True), 3),
    ],
    ids=['encoder', 'attention'],
)
def test_what_torch_computes_past_its_layers_stays_plain(reader, inputs):
    model = nn.Sequential(reader, copy.deepcopy(reader)).eval()
    x = [torch.randn(2, 5, 16)] * inputs
    before = reader(*x)
    mark(model, linear=True, kernel_sizes=[1], min_channels=16, reduction=16)
    assert families(model) == []
    torch.testing.assert_close(reader(*x), before)


class Reads(nn.Module):
    """Computes past one of its layers, which a part of it holds."""

    def __init__(self):
        super().__init__()
        self.convs = nn.Sequential(*convs(3))
        self.last = self.convs[2]

    def forward(self, x):
        if hasattr(self, 'norm'):
            x = x * self.norm.weight
        return nn.functional.conv2d(self.convs[:2](x), self.last.weight)


def test_a_layer_whose_weight_a_module_around_reads_stays_plain():
    model = Reads()
    mark(model, min_channels=16)
    obstacles = [site.obstacle for site in sites(model)]
    assert obstacles == ['', '', 'Reads reads its weight']
    x = torch.randn(1, 16, 8, 8)
    assert families(model) == ['convs.0 <- convs.1']
    assert model(x).shape == (1, 16, 2, 2)


def test_attention_of_torchvisions_swin_stays_plain():
    from torchvision.models.swin_transformer import SwinTransformer

    model = SwinTransformer([2, 2], 16, [2, 2], [2, 2], [4, 4])
    mark(model, linear=True, kernel_sizes=[1], min_channels=16)
    found = families(model)
    assert found
    assert not any('attn' in family for family in found)
    reasons = {site.obstacle for site in sites(model) if 'qkv' in site.name}
    assert reasons == {'ShiftedWindowAttention reads its weight'}
    assert model(torch.randn(1, 3, 32, 32)).isfinite().all()


def test_repvgg_stays_plain_and_can_be_deployed(log):
    import mmpretrain.models  # noqa: F401

    arch = dict(
        num_blocks=[1, 2, 2, 1],
        width_factor=[0.25] * 4,
        group_layer_map=None,
        se_cfg=None,
    )
    cfg = dict(type='mmpretrain.RepVGG', arch=arch, conv_cfg=CONV_CFG)
    model = uneven(MODELS.build(cfg))
    assert mmkdna.list_families(model) == []
    assert 'RepVGGBlock.switch_to_deploy fuses its weight' in log.messages[-1]
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = model(x)[-1]
        model.switch_to_deploy()
        after = model(x)[-1]
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-4)


def test_a_conv_module_with_efficient_bn_eval_stays_plain(log):
    torch.manual_seed(0)
    model = uneven(
        nn.Sequential(
            *(
                ConvModule(
                    16,
                    16,
                    3,
                    conv_cfg=CONV_CFG,
                    norm_cfg=dict(type='BN'),
                    efficient_conv_bn_eval=True,
                )
                for _ in '12'
            )
        )
    )
    assert families(model) == []
    reason = 'ConvModule.efficient_conv_bn_eval_forward fuses its weight'
    assert reason in log.messages[-1]
    x = torch.randn(2, 16, 8, 8)
    with torch.no_grad():
        fused = model(x)
        for module in model:
            module.turn_on_efficient_conv_bn_eval(False)
        torch.testing.assert_close(model(x), fused, rtol=1e-4, atol=1e-5)


def test_efficient_bn_eval_of_mmengine_leaves_members_whole(build):
    """It fuses by torch.fx, which calls a member as it does a conv."""
    model = nn.Module()
    model.backbone = uneven(build(3))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    x = torch.randn(2, 16, 8, 8)
    with torch.no_grad():
        before = model.backbone(x)
        turn_on_efficient_conv_bn_eval(model, 'backbone')
        assert 'fx' in type(model.backbone.forward.__self__).__module__
        after = model.backbone(x)
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)


def test_a_class_without_source_is_taken_as_one_that_reads_no_weight():
    # As what is typed into an interpreter.
    typed = {'nn': nn}
    exec(
        'class Typed(nn.Sequential):\n'
        '    def forward(self, x):\n'
        '        return super().forward(x)\n',
        typed,
    )
    model = typed['Typed'](*(nn.Conv2d(16, 16, 3) for _ in '12'))
    mmkdna.convert(model, min_channels=16)
    assert len(mmkdna.list_families(model)) == 1
