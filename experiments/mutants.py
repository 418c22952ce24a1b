"""Mutants of a module: its source with one small change each.

The changes are those of mutmut. Two more are ours: a condition is negated, a
statement is left out. No mutants are made of what does not run or is only
read: docstrings, annotations and aliases of types, imports, ``__all__``, texts
(strings of several parts or with a space).
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libcst as cst
import libcst.matchers as m
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators

NOT_MUTATED = (
    cst.Annotation
    | cst.Import
    | cst.ImportFrom
    | cst.ConcatenatedString
    | cst.FormattedStringText
)
NAMES_OF_TYPES = m.SimpleStatementLine(
    body=[m.Assign(targets=[m.AssignTarget(m.Name())], value=m.Subscript())]
)
PUBLIC_NAMES = m.SimpleStatementLine(
    body=[m.Assign(targets=[m.AssignTarget(m.Name('__all__'))])]
)
FOR_MYPY = m.If(test=m.Name('TYPE_CHECKING'))
LEFT_OUT = m.Expr() | m.Return() | m.Raise() | m.Del() | m.AugAssign()
SCOPES = cst.FunctionDef | cst.ClassDef


@dataclass(frozen=True)
class Mutant:
    """One change of a module.

    Args:
        key: The same as long as the function around the change is the same.
        lines: First and last line of the statement that is changed.
        scope: Names of the classes and functions around it.
        runs_on_import: Whether no call is needed to run the statement.
        change: What was there, and what is there now.
        source: Of the whole module.
    """

    key: str
    lines: tuple[int, int]
    scope: str
    runs_on_import: bool
    change: tuple[str, str]
    source: str


@dataclass(frozen=True)
class Place:
    """Where a node is."""

    scope: tuple[str, ...] = ()
    within: Any = None
    lines: tuple[int, int] = (1, 1)
    called: bool = False


def changed(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """What can stand in the place of a node."""
    if m.matches(node, m.SimpleString()) and ' ' in node.value:  # type: ignore
        return
    for kind, operator in mutation_operators:
        if isinstance(node, kind):
            yield from operator(node)
    if isinstance(node, (cst.If, cst.While, cst.CompIf)):
        test = node.test.with_changes(
            lpar=[cst.LeftParen()], rpar=[cst.RightParen()]
        )
        yield node.with_changes(test=cst.UnaryOperation(cst.Not(), test))
    if isinstance(node, cst.SimpleStatementLine):
        statement = node.body[0]
        is_text = m.matches(statement, m.Expr(m.SimpleString()))
        if m.matches(statement, LEFT_OUT) and not is_text:
            yield node.with_changes(body=[cst.Pass()])


def nodes(
    node: cst.CSTNode, place: Place, positions: Any
) -> Iterator[tuple[cst.CSTNode, Place]]:
    """All nodes that are mutated, and their places."""
    statement = isinstance(
        node, (cst.SimpleStatementLine, cst.BaseCompoundStatement)
    )
    if isinstance(node, NOT_MUTATED) or m.matches(node, FOR_MYPY):
        return
    if not place.called and m.matches(node, NAMES_OF_TYPES | PUBLIC_NAMES):
        return
    if statement:
        span = positions[node]
        last = span.end.line
        if isinstance(node, cst.BaseCompoundStatement):
            body = positions[node.body].start.line
            last = max(span.start.line, body - 1)
        place = Place(
            place.scope, place.within, (span.start.line, last), place.called
        )
    yield node, place
    inner = place
    if isinstance(node, SCOPES):
        inner = Place(
            (*place.scope, node.name.value),
            node,
            place.lines,
            place.called or isinstance(node, cst.FunctionDef),
        )
    for child in node.children:
        is_body = child is getattr(node, 'body', None)
        yield from nodes(child, inner if is_body else place, positions)


def mutants(path: Path) -> list[Mutant]:
    """All mutants of a module, in order of lines."""
    wrapper = MetadataWrapper(cst.parse_module(path.read_text()))
    module, positions = wrapper.module, wrapper.resolve(PositionProvider)
    found: dict[str, Mutant] = {}
    numbers: Counter = Counter()
    for node, place in nodes(module, Place(), positions):
        scope = '.'.join(place.scope)
        # Within a function the rest of the module does not count.
        around = module.code_for_node(place.within or module)
        for other in changed(node):
            mutated: Any = module.deep_replace(node, other)
            source = mutated.code
            try:
                compile(source, path.name, 'exec')
            except SyntaxError:
                continue
            numbers[scope] += 1
            text = f'{path.name} {scope} {numbers[scope]} {around}'
            found[source] = Mutant(
                hashlib.sha256(text.encode()).hexdigest()[:16],
                place.lines,
                scope,
                not place.called,
                (module.code_for_node(node), module.code_for_node(other)),
                source,
            )
    return sorted(found.values(), key=lambda mutant: mutant.lines)
