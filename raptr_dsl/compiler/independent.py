"""What else is wrong with a file whose mistakes kept the later passes from it.

A pass needs all of what the one before it makes, so one mistaken attribute would hide what binding says of every other
stage. Hence the passes run again without the attributes and requirements that are known to be wrong; what they then
say of statements without a mistake is true whatever the mended ones will say.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import replace

from raptr_dsl.compiler.gather import DURATIONS
from raptr_dsl.compiler.passes import Passes
from raptr_dsl.diagnostics import Diagnostic, Diagnostics
from raptr_dsl.source import Span
from raptr_dsl.syntax import ast

ROUNDS = 3
_OF_NEIGHBOURS = ("grow", "moments")
"""Attributes whose meaning depends on the stage before: without what is wrong there, they may be wrong as well."""


def further_mistakes(file: ast.File, mistakes: Diagnostics, passes: Passes) -> Iterator[Diagnostic]:
    """Errors of statements that have none yet, if all that is wrong can be left out without moving any border."""
    known = [item for item in mistakes if item.severity == "error"]
    if any(attribute.name.text in _OF_NEIGHBOURS for attribute in _attributes(file.statements)):
        return
    for _ in range(ROUNDS):
        places = _Places(known)
        rest = _without(file.statements, places)
        if rest is None:
            return
        found = Diagnostics()
        passes(replace(file, statements=rest), found)
        errors = [item for item in found if item.severity == "error"]
        seen = _Places(errors)
        blamed = {
            id(error)
            for statement in _flat(file.statements)
            if places.within(statement.span)
            for error in seen.within(statement.span)
        }
        new = [error for error in errors if error.span is not None and id(error) not in blamed]
        yield from new
        known += new
        if not new:
            return


class _Places:
    """Errors by where they are, so that ten thousand of them in as many statements are found in one pass."""

    def __init__(self, errors: Iterable[Diagnostic]) -> None:
        errors = list(errors)
        self.count = len(errors)
        by_source: dict[int, list[Diagnostic]] = {}
        for error in errors:
            if error.span is not None:
                by_source.setdefault(id(error.span.source), []).append(error)
        self._sorted = {source: sorted(found, key=_start) for source, found in by_source.items()}

    def within(self, span: Span) -> list[Diagnostic]:
        """The errors at a place within a span."""
        errors = self._sorted.get(id(span.source), [])
        first, last = bisect_left(errors, span.start, key=_start), bisect_right(errors, span.end, key=_start)
        return [error for error in errors[first:last] if error.span is not None and error.span.end <= span.end]


def _start(error: Diagnostic) -> int:
    return error.span.start if error.span is not None else 0


def _without(statements: Iterable[ast.Statement], errors: _Places) -> tuple[ast.Statement, ...] | None:
    """The statements less what is wrong; None if something is that the others are built on."""
    rest: list[ast.Statement] = []
    left_out = 0
    for statement in statements:
        inside = errors.within(statement.span)
        left_out += len(inside)
        if not inside:
            rest.append(statement)
        elif isinstance(statement, ast.Stage | ast.Ramp):
            wrong = {attribute: errors.within(attribute.span) for attribute in statement.attributes}
            is_whole = sum(map(len, wrong.values())) == len(inside)
            if not is_whole or any(found and at.name.text in DURATIONS for at, found in wrong.items()):
                return None
            kept = tuple(attribute for attribute, found in wrong.items() if not found)
            rest.append(replace(statement, attributes=kept))
        elif not isinstance(statement, ast.Require):
            return None
    return tuple(rest) if left_out == errors.count else None


def _flat(statements: Iterable[ast.Statement]) -> Iterator[ast.Statement]:
    for statement in statements:
        yield statement
        if isinstance(statement, ast.Repeat):
            yield from _flat(statement.body)


def _attributes(statements: Iterable[ast.Statement]) -> Iterator[ast.Attribute]:
    for statement in _flat(statements):
        if isinstance(statement, ast.Stage | ast.Ramp | ast.Default):
            yield from statement.attributes
