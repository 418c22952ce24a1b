"""Families: which layers share a kernel, and when they start to share."""

from .forming import form_families
from .grouping import Family, Member, group_families, list_families
from .marks import mark
from .sites import sites

__all__ = [
    'Family',
    'Member',
    'form_families',
    'group_families',
    'list_families',
    'mark',
    'sites',
]
