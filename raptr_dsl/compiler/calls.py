"""Words with arguments → laws and curves: `stratified(groups=4)`, `ranked(order=[1, 0])`, `root(a, b, n=2)`.

What arguments there are is read off the fields of the class, so that a new law or curve needs no word here.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import cache
from typing import Any, TypeVar, get_origin

from pydantic import ValidationError

from raptr_dsl.compiler.evaluate import count_of, evaluate, word_of
from raptr_dsl.compiler.scope import Scope
from raptr_dsl.compiler.units import LAST, units_of
from raptr_dsl.diagnostics import Label, did_you_mean
from raptr_dsl.ir.base import Frozen
from raptr_dsl.syntax import ast

Made = TypeVar("Made", bound=Frozen)


def make(node: ast.Value, registry: Mapping[str, type[Made]], tag: str, scope: Scope, what: str) -> Made | None:
    """The object that a name or a call speaks of, or None with the mistake recorded.

    Args:
        tag: the field that holds the class's own name; all other fields are arguments.
        what: the place, in messages.
    """
    name = node.name if isinstance(node, ast.Call) else node
    word = word_of(name, scope, registry, what)
    if word is None:
        return None
    return construct(registry[word], tag, node.args if isinstance(node, ast.Call) else (), node, scope)


def construct(cls: type[Made], tag: str, args: Sequence[ast.Argument], node: ast.Value, scope: Scope) -> Made | None:
    """An object of `cls` with these arguments, by position in the order of its fields or by name."""
    fields = tuple(name for name in cls.model_fields if name != tag)
    if not args and not any(cls.model_fields[name].is_required() for name in fields):
        return _plain(cls)
    word = cls.model_fields[tag].default
    given = _assign(args, fields, word, scope)
    if given is None:
        return None
    missing = [name for name in fields if name not in given and cls.model_fields[name].is_required()]
    if missing:
        scope.diagnostics.add(
            "missing-argument",
            f"`{word}` lacks {' and '.join(f'{name}=' for name in missing)}",
            node.span,
            help=f"add {', '.join(f'{name}=…' for name in missing)} in parentheses",
        )
        return None
    values = {name: _convert(cls, name, argument.value, scope) for name, argument in given.items()}
    if any(value is None for value in values.values()):
        return None
    try:
        return cls(**values)
    except ValidationError as error:
        problems = {problem["loc"][:1]: problem for problem in reversed(error.errors())}  # the first of each argument
        for problem in problems.values():
            blamed = given.get(str(problem["loc"][0])) if problem["loc"] else None
            message = problem["msg"].removeprefix("Value error, ")
            scope.diagnostics.add("bad-value", f"`{word}`: {message}", (blamed or node).span)
        return None


@cache
def _plain(cls: type[Made]) -> Made:
    return cls()


def _assign(
    args: Sequence[ast.Argument], fields: tuple[str, ...], word: str, scope: Scope
) -> dict[str, ast.Argument] | None:
    """Each argument to its field."""
    given: dict[str, ast.Argument] = {}
    good = True
    for position, argument in enumerate(args):
        if argument.name is None and position >= len(fields):
            good = False
            takes = f"takes {', '.join(fields)} only" if fields else "takes no arguments"
            scope.diagnostics.add("bad-value", f"`{word}` {takes}", argument.span, help="remove this one")
            continue
        name = argument.name.text if argument.name else fields[position]
        if name not in fields:
            good = False
            nearest = did_you_mean(name, fields)
            scope.diagnostics.add(
                "unknown-argument",
                f"`{word}` has no argument `{name}`",
                argument.span,
                help=f"did you mean `{nearest}`?" if nearest else f"it takes {', '.join(fields) or 'none'}",
            )
        elif name in given:
            good = False
            scope.diagnostics.add(
                "duplicate-argument",
                f"{name}= is given twice",
                argument.span,
                related=[Label(given[name].span, "first given here")],
                help="remove one of the two",
            )
        else:
            given[name] = argument
    return given if good else None


def _convert(cls: type[Frozen], field: str, node: ast.Value, scope: Scope) -> Any | None:
    """A value as the type that a field declares: a whole number, a number, or a list of units."""
    annotation = cls.model_fields[field].annotation
    if annotation is int:
        return count_of(node, scope, f"{field}=")
    if get_origin(annotation) is tuple:
        units = units_of(node, scope, f"{field}=")
        if units is None or LAST not in units:
            return None if units is None else tuple(units)
        scope.diagnostics.add(
            "bad-units",
            f"{field}= lists numbers: which unit is the last is known only with a model",
            node.span,
            help="write its number",
        )
        return None
    if annotation is not Fraction:
        raise TypeError(f"{cls.__name__}.{field}: the language has no values of type {annotation}")
    quantity = evaluate(node, scope)
    return None if quantity is None else quantity.value
