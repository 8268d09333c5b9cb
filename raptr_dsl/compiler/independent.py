"""What else is wrong with a file whose mistakes kept the later passes from it.

A pass needs all of what the one before it makes, so one mistaken attribute would hide what binding says of every other
stage. Hence the passes run again without the attributes and requirements that are known to be wrong; what they then
say of statements without a mistake is true whatever the mended ones will say.
"""

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
        rest = _without(file.statements, known)
        if rest is None:
            return
        blamed = [statement.span for statement in _flat(file.statements) if _holds(statement.span, known)]
        found = Diagnostics()
        passes(replace(file, statements=rest), found)
        new = [item for item in found if item.severity == "error" and _is_independent(item, blamed)]
        yield from new
        known += new
        if not new:
            return


def _without(statements: Iterable[ast.Statement], errors: list[Diagnostic]) -> tuple[ast.Statement, ...] | None:
    """The statements less what is wrong; None if something is that the others are built on."""
    rest: list[ast.Statement] = []
    left_out = 0
    for statement in statements:
        inside = [error for error in errors if _holds(statement.span, [error])]
        left_out += len(inside)
        if not inside:
            rest.append(statement)
        elif isinstance(statement, ast.Stage | ast.Ramp):
            wrong = [attribute for attribute in statement.attributes if _holds(attribute.span, inside)]
            is_whole = all(any(_holds(attribute.span, [error]) for attribute in wrong) for error in inside)
            if not is_whole or any(attribute.name.text in DURATIONS for attribute in wrong):
                return None
            kept = tuple(attribute for attribute in statement.attributes if attribute not in wrong)
            rest.append(replace(statement, attributes=kept))
        elif not isinstance(statement, ast.Require):
            return None
    return tuple(rest) if left_out == len(errors) else None


def _holds(span: Span, errors: list[Diagnostic]) -> bool:
    """Whether one of the errors is at a place within a span."""
    return any(
        error.span is not None
        and error.span.source is span.source
        and span.start <= error.span.start
        and error.span.end <= span.end
        for error in errors
    )


def _is_independent(error: Diagnostic, blamed: list[Span]) -> bool:
    """Whether an error is of the file, and of no statement that has one already."""
    return error.span is not None and not any(_holds(span, [error]) for span in blamed)


def _flat(statements: Iterable[ast.Statement]) -> Iterator[ast.Statement]:
    for statement in statements:
        yield statement
        if isinstance(statement, ast.Repeat):
            yield from _flat(statement.body)


def _attributes(statements: Iterable[ast.Statement]) -> Iterator[ast.Attribute]:
    for statement in _flat(statements):
        if isinstance(statement, ast.Stage | ast.Ramp | ast.Default):
            yield from statement.attributes
