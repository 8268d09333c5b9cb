"""What a statement says of how long it takes, before the horizon is known (rule 9)."""

from fractions import Fraction
from math import floor
from typing import NamedTuple

from raptr_dsl.compiler.evaluate import evaluate, misplaced_hole
from raptr_dsl.compiler.gather import DURATIONS, Given
from raptr_dsl.compiler.scope import Scope
from raptr_dsl.diagnostics import Edit, Label
from raptr_dsl.source import Span
from raptr_dsl.syntax import ast
from raptr_dsl.wording import share_text

ZERO = Fraction(0)


class Spec(NamedTuple):
    """A duration as written in its level.

    Attributes:
        unit: `share` (of the level), `steps`, `tokens`, or `rest` (what the other parts of the level leave).
        parametric: whether a parameter had a hand in it, so that no steps at all is no mistake (rule 13).
    """

    unit: str
    value: Fraction
    attribute: ast.Attribute
    parametric: bool = False


def spec_of(given: Given, statement: ast.Statement, word: str, scope: Scope) -> Spec | None:
    """The duration that a statement's attributes give it, or None with what is wrong recorded."""
    found = [given.words[unit] for unit in DURATIONS if unit in given.words]
    if len(found) == 1:
        return _read(found[0], scope)
    if found:
        scope.diagnostics.add(
            "two-durations",
            f"this {word} says twice how long it lasts",
            found[1].span,
            related=[Label(found[0].span, "said here")],
            help="keep one of the two",
        )
        return None
    if given.meant & set(DURATIONS):
        return None
    end = Span(statement.span.source, statement.span.end, statement.span.end)
    can_be_rest = _can_be_rest(statement, scope)
    scope.diagnostics.add(
        "no-duration",
        f"this {word} does not say how long it lasts",
        statement.span,
        help="add steps=rest for all that the others leave, or steps=25%, or steps=10k"
        if can_be_rest
        else "add a share or a number of steps: steps=25%, steps=10k",
        fix=Edit(end, " steps=rest") if can_be_rest and not statement.span.text.endswith("}") else None,
    )
    return None


def _can_be_rest(statement: ast.Statement, scope: Scope) -> bool:
    """Whether `steps=rest` would do: one part of a level can take what is left, so the last that says nothing."""
    timed = [one for one in scope.statements if isinstance(one, ast.Stage | ast.Ramp | ast.Run)]
    silent = [one for one in timed if not any(map(_is_duration, one.attributes))]
    return silent[-1] is statement and not any(map(_is_rest, timed)) and not _comes_often(scope)


def _comes_often(scope: Scope) -> bool:
    """Whether a plain `repeat` makes the statements of a block parts of the level around it, several times."""
    around = scope.parent.statements if scope.parent else ()
    body = next((one for one in around if isinstance(one, ast.Repeat) and one.body is scope.statements), None)
    return body is not None and not any(map(_is_duration, body.attributes))


def _is_duration(attribute: ast.Attribute) -> bool:
    return attribute.axis is None and attribute.name.text in DURATIONS


def _is_rest(statement: ast.Stage | ast.Ramp | ast.Run) -> bool:
    values = (attribute.value for attribute in statement.attributes if _is_duration(attribute))
    return any(isinstance(value, ast.Name) and value.text == "rest" for value in values)


def _read(attribute: ast.Attribute, scope: Scope) -> Spec | None:
    unit, node = attribute.name.text, attribute.value
    if isinstance(node, ast.Name) and node.text == "rest" and unit == "steps":
        return Spec("rest", ZERO, attribute)
    if isinstance(node, ast.Hole):
        misplaced_hole(node, scope)
        return None
    quantity = evaluate(node, scope)
    if quantity is None:
        return None
    value, chain = quantity.value, scope.chain(quantity)
    if value < 0 or not (value or quantity.parametric):
        scope.diagnostics.add(
            "bad-duration",
            f"{unit}={node.span.text} is less than no time" if value < 0 else f"{unit}={node.span.text} is no time",
            attribute.span,
            related=chain,
            help="leave the statement out, or give it time: steps=10%",
        )
        return None
    if quantity.is_count:
        return Spec(unit, value, attribute, quantity.parametric)
    if unit == "tokens":
        scope.diagnostics.add(
            "bad-duration",
            f"tokens={node.span.text} is a share, and tokens are counted",
            attribute.span,
            related=chain,
            help=f"write steps={node.span.text} for a share, or a count such as tokens=500M",
        )
        return None
    if value > 1 and isinstance(node, ast.Number) and not node.span.text.endswith("%"):
        whole = floor(value)
        scope.diagnostics.add(
            "bad-duration",
            f"steps={node.span.text} is a share, of {share_text(value)}: a number with a decimal point is no count",
            attribute.span,
            help=f"steps are whole: write steps={whole} or steps={whole + 1}",
        )
        return None
    return Spec("share", value, attribute, quantity.parametric)
