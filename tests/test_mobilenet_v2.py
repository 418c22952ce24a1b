"""The paper's MobileNetV2: its families."""

from helpers import families
from mmengine.registry import MODELS

import mmkdna.backbones  # noqa: F401


def test_mobilenet_shares_both_pointwise_convs_of_the_last_blocks():
    model = MODELS.build(dict(type='KDNAMobileNetV2'))
    assert families(model)[2:4] == [
        'layer4.1.conv.0.conv, layer4.2.conv.0.conv <- layer4.3.conv.0.conv',
        'layer4.1.conv.2.conv, layer4.2.conv.2.conv <- layer4.3.conv.2.conv',
    ]
    assert len(families(model)) == 8
    block = model.layer4[1].conv
    squeezed = {len(block[i].conv.adapter.routing.squeeze) for i in (0, 2)}
    assert squeezed == {64 // 4}
