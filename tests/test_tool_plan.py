"""tools/plan.py: a plan that can be pasted into the config."""

import ast
import re

from helpers import ROOT
from mmengine.config import Config
from mmengine.registry import init_default_scope

import mmkdna
import mmkdna.measure.configs as configs

PLAIN = str(ROOT / 'configs/digits/plain/r18.py')
FEW = ['digit_scenes.num_train=8', 'digit_scenes.num_val=2']


def test_what_it_prints_builds_with_the_families_it_chose(
    tool, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    chosen = ['--budget', '-20%', '--min-channels', '64', '--batches', '1']
    options = ['--cfg-options', *FEW, '--out', 'found/plan.png']
    tool('plan').main([PLAIN, 'mmkdna://r18_digits', *chosen, *options])
    printed = capsys.readouterr().out
    assert (tmp_path / 'found/plan.png').stat().st_size > 5000
    count = int(re.search(r'([\d,]+) parameters', printed)[1].replace(',', ''))
    pasted = re.search(r'kernel_dna=(\{.*\})\)', printed)[1]
    cfg = Config.fromfile(PLAIN)
    cfg.model.kernel_dna = ast.literal_eval(pasted)
    init_default_scope('mmpretrain')
    model = configs.build_model(cfg)
    assert sum(p.numel() for p in model.parameters()) == count
    families = ast.literal_eval(pasted)['families']
    assert len(mmkdna.list_families(model)) == len(families)
