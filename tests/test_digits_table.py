"""experiments/digits_table.py, which `make digits` calls."""

import runpy

import pytest
from helpers import ROOT


def test_runs_that_are_not_there_are_named(tmp_path):
    main = runpy.run_path(str(ROOT / 'experiments/digits_table.py'))['main']
    with pytest.raises(FileNotFoundError, match='make digits'):
        main([str(tmp_path)])
    (tmp_path / 'plain_r18').mkdir()
    with pytest.raises(FileNotFoundError, match='kdna_r18 holds no finished'):
        main([str(tmp_path)])
