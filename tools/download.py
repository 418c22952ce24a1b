"""The zoo from the command line: the same as python -m mmkdna.zoo.

Example: python tools/download.py download kdna_r50_from_torchvision
"""

from mmkdna.cli import exit_on_bad_input
from mmkdna.zoo.__main__ import main

if __name__ == '__main__':
    exit_on_bad_input(main)
