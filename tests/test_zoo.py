"""The command line of the zoo."""

import pytest
from zoo_server import BODY, FILE, SHA, entry

from mmkdna.errors import BadInput
from mmkdna.zoo.__main__ import main


def test_entries_are_listed_shown_fetched_and_verified(
    server, cache, index, capsys
):
    recipe = {'Name': 'recipe', 'Config': 'configs/recipe.py'}
    index(
        {
            **entry(weights=f'{server.url}/ok/{FILE}'),
            'Results': [{'Metrics': {'box AP': 72.8}}],
        },
        recipe,
    )
    main(['list'])
    out = capsys.readouterr().out
    assert 'not trained yet' in out
    assert 'box AP 72.8' in out
    main(['show', 'thing'])
    assert f'SHA-256: {SHA}' in capsys.readouterr().out
    main(['where', 'thing'])
    assert 'thing: not on this machine yet' in capsys.readouterr().out
    main(['download', 'thing', 'mmkdna://thing'])
    assert capsys.readouterr().out.split() == [str(cache / FILE)] * 2
    main(['where', 'thing'])
    assert f'thing: {cache / FILE}' in capsys.readouterr().out
    main(['verify'])
    assert f'{cache / FILE}: whole' in capsys.readouterr().out
    (cache / FILE).write_bytes(BODY[:-1])
    with pytest.raises(BadInput, match='SHA-256 differs from the index'):
        main(['verify'])
