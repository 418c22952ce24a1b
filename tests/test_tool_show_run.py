"""tools/show_run.py: runs that it cannot show."""

import pytest
from helpers import ROOT
from mmengine.config import Config

from mmkdna.errors import BadInput


def test_run_that_is_not_finished_cannot_be_shown(tool, tmp_path):
    with pytest.raises(FileNotFoundError, match='holds no finished run'):
        tool('show_run').main([str(tmp_path)])


def test_run_of_a_segmentor_is_not_drawn_as_detections(
    tool, tmp_path, monkeypatch
):
    cfg = Config.fromfile(ROOT / 'configs/digits/kdna_upernet_r18.py')
    show = tool('show_run')
    monkeypatch.setattr(show, 'find_run', lambda _: (cfg, 'x.pth'))
    with pytest.raises(BadInput, match='config of mmseg, expected one of mm'):
        show.main([str(tmp_path)])
