"""Places in a file whose value can be solved, and the file with values in them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from raptr_dsl.axes import AXES
from raptr_dsl.source import Span
from raptr_dsl.syntax import ast


@dataclass(frozen=True, slots=True, eq=False)
class Hole:
    """The value of `steps=?` or `depth=?`, or one written out that may be changed.

    Attributes:
        axis: whose size it is; "" for a duration.
    """

    attribute: ast.Attribute
    axis: str = ""

    @property
    def name(self) -> str:
        return self.attribute.name.text

    @property
    def span(self) -> Span:
        """Of the value, which a solution replaces."""
        return self.attribute.value.span


def places_of(statements: Sequence[ast.Statement]) -> Iterator[Hole]:
    """Every size and every duration in steps that statements say, in order."""
    for statement in statements:
        if not isinstance(statement, ast.Stage | ast.Ramp | ast.Repeat | ast.Run):
            continue
        has_sizes = isinstance(statement, ast.Stage | ast.Ramp)
        for attribute in statement.attributes:
            name = attribute.name.text
            if attribute.axis is None and (name == "steps" or (has_sizes and name in AXES)):
                yield Hole(attribute, "" if name == "steps" else name)
        if isinstance(statement, ast.Repeat):
            yield from places_of(statement.body)


def holes_of(file: ast.File) -> list[Hole]:
    """The holes of a file that stand where a value can be solved."""
    return [place for place in places_of(file.statements) if isinstance(place.attribute.value, ast.Hole)]


def filled(file: ast.File, values: Mapping[int, Fraction]) -> ast.File:
    """The file with shares in the places that begin at these offsets."""
    return replace(file, statements=_filled(file.statements, values))


def _filled(statements: tuple[ast.Statement, ...], values: Mapping[int, Fraction]) -> tuple[ast.Statement, ...]:
    return tuple(
        _with_values(statement, values)
        if isinstance(statement, ast.Stage | ast.Ramp | ast.Repeat | ast.Run)
        and any(statement.span.start <= start < statement.span.end for start in values)
        else statement
        for statement in statements
    )


def _with_values(
    statement: ast.Stage | ast.Ramp | ast.Repeat | ast.Run, values: Mapping[int, Fraction]
) -> ast.Statement:
    attributes = tuple(
        replace(attribute, value=ast.Number(attribute.value.span, values[start], False))
        if (start := attribute.value.span.start) in values
        else attribute
        for attribute in statement.attributes
    )
    if isinstance(statement, ast.Repeat):
        return replace(statement, attributes=attributes, body=_filled(statement.body, values))
    return replace(statement, attributes=attributes)
