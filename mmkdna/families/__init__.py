"""Families: which convs share a kernel, and the moment when they start to."""

from ..layers import Policy
from .grouping import Family, Member, group_families
from .hook import install
from .linking import form_families, link, list_families, when_formed
from .report import Report, ReportRow, report
from .sites import conv_sites
from .warehouses import form_dynamic

install()
when_formed.append(form_dynamic)

__all__ = [
    'Family',
    'Member',
    'Policy',
    'Report',
    'ReportRow',
    'conv_sites',
    'form_families',
    'group_families',
    'install',
    'link',
    'list_families',
    'report',
]
