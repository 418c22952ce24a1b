"""The tables of a page are those of the index."""

import pytest
from zoo_server import entry

from mmkdna.errors import BadInput
from mmkdna.zoo.__main__ import main
from mmkdna.zoo.index import read_index
from mmkdna.zoo.table import BEGIN, END, rewritten


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
    main(['table', str(page)])
    text = page.read_text()
    assert text.startswith('# Ours\n')
    assert text.endswith(f'{END}\nlast\n')
    assert 'old' not in text
    assert '| 1.23 |  | box AP 72.8 | digits | 0.8 |' in text
    assert '| `made` | `torchvision://resnet18` |' in text
    assert text.index('not trained yet') < text.index('`recipe`')
    with pytest.raises(BadInput, match='expected <!-- from the index -->'):
        rewritten('nothing', read_index().values())
