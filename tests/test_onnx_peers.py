"""What docs/deploy.md says of the other dynamic convolutions in ONNX."""

import onnxruntime
import pytest
import torch
from helpers import ROOT
from mmcv.cnn import build_conv_layer
from torch import nn

import mmkdna

PAGE = ' '.join((ROOT / 'docs' / 'deploy.md').read_text().split())
IMAGES = torch.randn(2, 16, 12, 12)


def export(kind, path, axes):
    conv_cfg = dict(type=kind)
    model = nn.Sequential(
        *(build_conv_layer(conv_cfg, 16, 16, 3, padding=1) for _ in range(2))
    )
    mmkdna.form_families(model)
    torch.onnx.export(
        model.eval(),
        (IMAGES,),
        path,
        dynamo=False,
        input_names=['image'],
        dynamic_axes={'image': axes},
    )
    return model


@pytest.mark.parametrize(
    'kind', ['CondConv', 'DyConv', 'ODConv', 'KernelWarehouse']
)
def test_kernels_of_images_export_with_a_fixed_batch_only(kind, tmp_path):
    path = str(tmp_path / 'model.onnx')
    model = export(kind, path, {})
    (found,) = onnxruntime.InferenceSession(path).run(
        None, {'image': IMAGES.numpy()}
    )
    with torch.no_grad():
        expected = model(IMAGES)
    torch.testing.assert_close(
        torch.from_numpy(found), expected, rtol=1e-4, atol=1e-4
    )
    sentence = 'ONNX export of convolution for kernel of unknown shape'
    assert sentence in PAGE
    with pytest.raises(torch.onnx.errors.SymbolicValueError, match=sentence):
        export(kind, path, {0: 'batch'})


def test_fourier_transforms_do_not_export(tmp_path):
    operator = 'aten::view_as_complex'
    assert f"Exporting the operator '{operator}' to ONNX" in PAGE
    with pytest.raises(
        torch.onnx.errors.UnsupportedOperatorError, match=operator
    ):
        export('FDConv', str(tmp_path / 'model.onnx'), {})
