"""Families: which layers share a kernel, and the moment when they start to."""

from ..layers import Settings
from .forming import form_families, install
from .grouping import Family, Member, group_families, list_families
from .marks import KernelDNA, mark
from .sites import sites

install()

__all__ = [
    'Family',
    'KernelDNA',
    'Member',
    'Settings',
    'form_families',
    'group_families',
    'install',
    'list_families',
    'mark',
    'sites',
]
