"""`param`: a typed value within its bounds: from `--param`, from the arguments of a `run`, or its default."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from raptr_dsl.compiler.evaluate import shown
from raptr_dsl.compiler.scope import Meaning, Quantity, Scope
from raptr_dsl.compiler.types import Read, type_of
from raptr_dsl.diagnostics import Label, did_you_mean
from raptr_dsl.source import Span
from raptr_dsl.syntax import ast


@dataclass(frozen=True, slots=True)
class Argument:
    """A value for a parameter: an expression in the scope of whoever gives it."""

    name: str
    value: ast.Value
    scope: Scope
    span: Span


class Bounds(NamedTuple):
    low: Quantity
    high: Quantity
    span: Span


def bind_param(statement: ast.Param, argument: Argument | None, is_complete: bool, scope: Scope) -> None:
    """Defines a parameter's name; without a value if it has none, or one that is wrong.

    Args:
        is_complete: whether all arguments were understood, so that one that is missing was not given.
    """
    read = type_of(statement, scope)
    if read is None:
        scope.define(statement.name, None)
        return
    bounds = _bounds(statement, read, scope)
    meaning: Meaning = None
    if statement.default is not None:
        meaning = _within(read(statement.default, scope), statement.default, bounds, statement, scope)
    if argument is not None:
        meaning = _within(read(argument.value, argument.scope), argument.value, bounds, statement, scope)
    elif statement.default is None and is_complete:
        _report_missing(statement, scope)
    if isinstance(meaning, Quantity):
        meaning = meaning._replace(parametric=True)
    scope.define(statement.name, meaning)


def check_names(given: Mapping[str, Argument], statements: Sequence[ast.Statement], title: str, scope: Scope) -> bool:
    """Whether there is a parameter for each argument; those for which there is none are recorded."""
    names = [statement.name.text for statement in statements if isinstance(statement, ast.Param)]
    unknown = [argument for argument in given.values() if argument.name not in names]
    for argument in unknown:
        nearest = did_you_mean(argument.name, names)
        known = f"it has {', '.join(names)}" if names else "it has no parameters"
        scope.diagnostics.add(
            "unknown-param",
            f"{title} has no parameter `{argument.name}`",
            argument.span,
            help=f"did you mean `{nearest}`?" if nearest else known,
        )
    return not unknown


def _bounds(statement: ast.Param, read: Read, scope: Scope) -> Bounds | None:
    written = statement.bounds
    if written is None:
        return None
    if isinstance(statement.type, ast.Call):
        scope.diagnostics.add("param-bounds", "words have no bounds", written.span, help="remove the bounds")
        return None
    low, high = read(written.start, scope), read(written.stop, scope)
    if not (isinstance(low, Quantity) and isinstance(high, Quantity)):
        return None
    if low.is_count != high.is_count:
        scope.diagnostics.add(
            "param-bounds",
            "these bounds are a count and a share, which do not compare",
            written.span,
            help="write both as counts or both as shares",
        )
        return None
    if low.value > high.value:
        scope.diagnostics.add(
            "bounds-backwards",
            f"the bounds run backwards: {shown(written.start, low)} is more than {shown(written.stop, high)}",
            written.span,
            help=f"write {written.stop.span.text} .. {written.start.span.text}",
        )
        return None
    return Bounds(low, high, written.span)


def _within(meaning: Meaning, node: ast.Value, bounds: Bounds | None, statement: ast.Param, scope: Scope) -> Meaning:
    """The value if it is within the bounds, else None with that recorded."""
    if bounds is None or not isinstance(meaning, Quantity):
        return meaning
    name = statement.name.text
    if meaning.is_count != bounds.low.is_count:
        kind, others = ("count", "shares") if meaning.is_count else ("share", "counts")
        fact = f"{shown(node, meaning)} is a {kind}, and the bounds of `{name}` are {others}"
    elif not bounds.low.value <= meaning.value <= bounds.high.value:
        fact = f"{shown(node, meaning)} is outside the bounds of `{name}`"
    else:
        return meaning
    scope.diagnostics.add(
        "param-bounds",
        fact,
        node.span,
        related=[Label(bounds.span, "the bounds")],
        help=f"choose a value in {bounds.span.text}",
    )
    return None


def _report_missing(statement: ast.Param, scope: Scope) -> None:
    name = statement.name.text
    if scope.link is None:
        scope.diagnostics.add(
            "param-without-value",
            f"the parameter `{name}` has no value",
            statement.span,
            help=f"give it one with --param {name}=…, or a default here: = …",
        )
        return
    scope.diagnostics.add(
        "param-without-value",
        f"this run gives no value to the parameter `{name}`",
        scope.link.label.span,
        related=[Label(statement.span, "it has no default")],
        help=f"add {name}=… in parentheses",
    )
