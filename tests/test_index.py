"""The index: entries that are not whole are named."""

import pytest
from zoo_server import entry

from mmkdna.errors import BadInput
from mmkdna.zoo.index import read_index


@pytest.mark.parametrize(
    ('models', 'message'),
    [
        ('Models: [', 'a.yml cannot be read: .*line 1'),
        ('Models: 2001-02-30', 'a.yml cannot be read: day is out of range'),
        ('Models: 0b_', 'a.yml cannot be read: invalid literal'),
        ('Models: !!timestamp x', 'a.yml cannot be read'),
        ('- 1', 'expected a mapping'),
        # YAML that would run a function.
        (
            'Models: !!python/object/apply:os.abort []',
            'a.yml cannot be read: could not determine a constructor',
        ),
        ('Models: 3', 'a.yml: Models=3: expected a list'),
        ('Models: [3]', r'Models\[0\]=3: expected a mapping'),
        ([{'Name': '../x', 'Config': 'a.py'}], r"Name='\.\./x': expected"),
        ([{'Name': 'x'}], r'\(x\): Config=None: expected a path'),
        ([{'Name': 'x', 'Config': '../a.py'}], 'expected a path below'),
        ([{'Name': 'x', 'Config': 'a\0.py'}], 'expected a path below'),
        ([{'Name': 'x', 'Config': 'a/../../b.py'}], 'expected a path below'),
        ([{'Name': 'x', 'Config': '/a.py'}], 'expected a path below'),
        ([entry(weights='file:///x/y.pth')], 'a URL, or a path below'),
        ([entry(), entry()], 'thing is there twice'),
        ([entry(**{'SHA-256': 'abc'})], "SHA-256='abc': expected 64 hex"),
        ([entry(weights='../x.safetensors')], 'a URL, or a path below'),
        ([entry(weights='/x.safetensors')], 'a URL, or a path below'),
        ([entry(weights='http://x/')], 'a URL, or a path below'),
        ([{**entry(), 'Results': ['a']}], r"Results\[0\]='a': expected a"),
        (
            [{**entry(), 'Results': [{'Metrics': 3}]}],
            r'Results\[0\]: Metrics=3: expected a mapping',
        ),
        ([entry(**{'Size (bytes)': 0})], r'\(bytes\)=0: expected an int'),
        ([entry(**{'Derived From': 3})], 'Derived From=3: expected a str'),
        ([entry(Parameters='many')], "Parameters='many': expected a number"),
        ([entry(**{'Multiply-adds': True})], 'Multiply-adds=True: expected a'),
    ],
)
def test_an_index_that_is_not_whole_is_named(index, models, message):
    if isinstance(models, str):
        index(text=models)
    else:
        index(*models)
    with pytest.raises(BadInput, match=message):
        read_index()
