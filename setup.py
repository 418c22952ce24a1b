"""Ships what mim and the zoo look for inside the package: ``mmkdna/.mim``."""

import os
import shutil

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = ('configs', 'tools', 'model-index.yml')


class BuildWithMim(build_py):
    """Copies configs, tools and the index; an editable install needs none."""

    def run(self):
        super().run()
        if self.editable_mode:
            return
        target = os.path.join(self.build_lib, 'mmkdna', '.mim')
        shutil.rmtree(target, ignore_errors=True)
        os.makedirs(target)
        for name in SHIPPED:
            place = os.path.join(target, name)
            if os.path.isdir(name):
                ignore = shutil.ignore_patterns('__pycache__')
                shutil.copytree(name, place, ignore=ignore)
            else:
                shutil.copy2(name, place)


setup(cmdclass={'build_py': BuildWithMim})
