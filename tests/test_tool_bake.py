"""tools/bake.py: a file that computes the same."""

import pytest
import torch
from helpers import ROOT
from mmengine.config import Config
from safetensors import safe_open

import mmkdna
from mmkdna.checkpoint import read_weights
from mmkdna.errors import BadInput
from mmkdna.measure.configs import build_model


def test_the_tool_writes_a_file_once(tool, tmp_path, capsys):
    bake = tool('bake')
    config = str(ROOT / 'configs/digits/kdna_r18.py')
    path = tmp_path / 'baked.safetensors'
    arguments = ['mmkdna://kdna_r18_digits', config, str(path)]
    bake.main(arguments)
    assert 'gates' in capsys.readouterr().out
    with safe_open(path, 'pt') as file:
        assert file.metadata()['baked'] == 'true'
    first = path.read_bytes()
    with pytest.raises(BadInput, match='--force'):
        bake.main(arguments)
    assert path.read_bytes() == first
    bake.main([*arguments, '--force'])

    cfg = Config.fromfile(config)
    model = mmkdna.load_baked(build_model(cfg), str(path)).eval()
    trained = build_model(cfg).eval()
    weights = read_weights(str(mmkdna.zoo.local_path(arguments[0])))
    trained.load_state_dict(weights)
    x = torch.randn(2, 3, 32, 32)
    for got, want in zip(
        model.extract_feat(x), trained.extract_feat(x), strict=True
    ):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
