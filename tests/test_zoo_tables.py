"""docs/zoo_tables.py: the tables of a page are those of the index."""

import sys

import pytest
from helpers import ROOT
from zoo_server import entry

from mmkdna.errors import BadInput

sys.path.insert(0, str(ROOT / 'docs'))

from zoo_tables import BEGIN, END, PAGE, main, read_index, rewritten


def test_the_tables_of_a_page_are_those_of_the_index(cache, index, tmp_path):
    trained = {
        **entry(Parameters=1_234_567),
        'Results': [{'Dataset': 'digits', 'Metrics': {'box AP': 72.8}}],
    }
    made = {'Name': 'made', 'Config': 'configs/made.py'}
    made['Metadata'] = {'Derived From': 'torchvision://resnet18'}
    index(trained, made, {'Name': 'recipe', 'Config': 'configs/recipe.py'})
    page = tmp_path / 'page.md'
    page.write_text(f'# Ours\n{BEGIN}\nold\n{END}\nlast\n')
    main(page=page)
    text = page.read_text()
    assert text.startswith('# Ours\n')
    assert text.endswith(f'{END}\nlast\n')
    assert 'old' not in text
    assert '| 1.23 |  | box AP 72.8 | digits | 0.8 |' in text
    assert '| `made` | `torchvision://resnet18` |' in text
    assert text.index('not trained yet') < text.index('`recipe`')
    with pytest.raises(BadInput, match='expected <!-- from the index -->'):
        rewritten('nothing', read_index().values())


def test_the_page_is_that_of_the_index():
    page = PAGE.read_text()
    assert page == rewritten(page, read_index().values())
