"""The metafile and the README have every config."""

import json
from pathlib import Path

import yaml
from helpers import ROOT

CONFIGS = ROOT / 'configs'
FAMILIES = json.loads((ROOT / 'tests/families.json').read_text())


def entries():
    """The recipes of the metafile, by the name of their config."""
    text = (CONFIGS / 'metafile.yml').read_text()
    return {
        Path(entry['Config']).stem: entry['Metadata']
        for entry in yaml.safe_load(text)['Models']
        if 'Derived From' not in entry['Metadata']
    }


def test_the_metafile_has_each_config_and_its_parameters():
    stems = {path.stem for path in CONFIGS.glob('kdna_*.py')}
    found = {name: data['Parameters'] for name, data in entries().items()}
    assert found == {name: FAMILIES[name]['parameters'] for name in stems}


def test_the_metafile_says_at_which_input_it_counts():
    assert all(
        data['Multiply-adds'] > 0 and 'x' in data['Input Size']
        for data in entries().values()
    )


def test_the_readme_has_each_config():
    text = (CONFIGS / 'README.md').read_text()
    for path in CONFIGS.glob('**/kdna_*.py'):
        assert f']({path.relative_to(CONFIGS)})' in text, path


def test_the_collection_names_a_file_that_is_there():
    for path in CONFIGS.rglob('metafile.yml'):
        (collection,) = yaml.safe_load(path.read_text())['Collections']
        assert (ROOT / collection['README']).is_file()
