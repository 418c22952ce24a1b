"""ONNX files of models with families, by torch's two exporters."""

import pytest
import torch
from pairs import family

import mmkdna

onnxruntime = pytest.importorskip(
    'onnxruntime', reason='pip install "mmkdna[export]"'
)
pytest.importorskip('onnx')

AXES = {0: 'batch', 2: 'height', 3: 'width'}


def runs(path, image):
    """The outputs of a file in ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options)
    return session.run(None, {'image': image.numpy()})


@pytest.mark.parametrize('baked', [False, True])
@pytest.mark.parametrize('training', [False, True])
def test_a_trace_for_onnx_meets_no_function_of_autograd(
    tmp_path, monkeypatch, baked, training
):
    """As mmdeploy exports, which switches off the pass that inlines one."""
    monkeypatch.setattr(
        torch._C,
        '_jit_pass_onnx_autograd_function_process',
        lambda graph: None,
    )
    model = family(padding=1, members=3)
    if baked:
        mmkdna.bake(model)
    mode = torch.onnx.TrainingMode
    path = str(tmp_path / 'model.onnx')
    torch.onnx.export(
        model,
        (torch.randn(1, 8, 6, 6),),
        path,
        dynamo=False,
        training=mode.TRAINING if training else mode.EVAL,
        input_names=['image'],
        output_names=['features'],
        dynamic_axes={'image': AXES, 'features': AXES},
    )
    model.eval()
    for shape in ((1, 8, 6, 6), (3, 8, 9, 7)):
        image = torch.randn(shape)
        (found,) = runs(path, image)
        with torch.no_grad():
            expected = model(image)
        torch.testing.assert_close(
            torch.from_numpy(found), expected, rtol=1e-4, atol=1e-5
        )
