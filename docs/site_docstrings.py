"""Docstrings as the site shows them: roles of Sphinx as plain code."""

import re

from griffe import Extension

ROLE = re.compile(r':(?:attr|class|data|func|meth|mod):`~?([^`]+)`')


class Roles(Extension):
    """Write ``:class:`Settings``` as ``Settings``, in code."""

    def on_object(self, *, obj, **kwargs):
        if obj.docstring:
            text = obj.docstring.value
            obj.docstring.value = ROLE.sub(r'`\1`', text)
