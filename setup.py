"""Ships what mim and the zoo look for inside the package: ``mmkdna/.mim``.

``MMKDNA_WEIGHTS_URL=https://host/path python -m build`` makes a wheel that
names the weights there and leaves them out.
"""

import os
import re
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

SHIPPED = ('configs', 'tools', 'weights', 'model-index.yml')


def ship(target, names=SHIPPED):
    """Copy these files and folders to a folder, made anew."""
    url = os.environ.get('MMKDNA_WEIGHTS_URL', '').rstrip('/')
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in names:
        if os.path.isdir(name):
            ignore = shutil.ignore_patterns(
                '__pycache__', *(['*.safetensors'] if url else [])
            )
            shutil.copytree(name, target / name, ignore=ignore)
        else:
            shutil.copy2(name, target)
    if url:
        for path in target.rglob('metafile.yml'):
            text = re.sub(
                r'^(\s+Weights: )weights/',
                rf'\g<1>{url}/',
                path.read_text(),
                flags=re.MULTILINE,
            )
            path.write_text(text)


class BuildWithMim(build_py):
    """The package with ``.mim``; an editable install has the repository."""

    def run(self):
        super().run()
        if not self.editable_mode:
            ship(Path(self.build_lib, 'mmkdna', '.mim'))


class WheelWithMim(bdist_wheel):
    """A wheel in which onedl-mim 0.5.1 finds the index, too.

    It takes the first folder of RECORD for the package, which pip sorts:
    ``mmkdna-0.1.0.dist-info`` comes before ``mmkdna``.
    """

    def write_wheelfile(self, wheelfile_base, *args, **kwargs):
        super().write_wheelfile(wheelfile_base, *args, **kwargs)
        if not self.get_finalized_command('build_py').editable_mode:
            names = ('configs', 'model-index.yml')
            ship(Path(wheelfile_base, '.mim'), names)


setup(cmdclass={'build_py': BuildWithMim, 'bdist_wheel': WheelWithMim})
