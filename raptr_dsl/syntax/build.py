"""What is made of each rule of the grammar: one method a rule, from its parts to a node of the tree.

The parts are the symbols of the rule as they stand in the grammar, tokens included, so a method may count on their
places. An optional part that is absent takes no place; a repeated one is a list.
"""

import re
from dataclasses import replace
from fractions import Fraction
from typing import Any

from raptr_dsl.diagnostics import Diagnostic, Edit
from raptr_dsl.source import Source, Span
from raptr_dsl.syntax import ast
from raptr_dsl.syntax.characters import shortened
from raptr_dsl.syntax.tokens import Token

Parts = list[Any]

NUMBER_BITS = 256
_NUMBER = re.compile(r"([0-9_]+)(?:\.([0-9]+))?(?:[eE]([+-]?)([0-9]+))?([%kMBT]?)")
_UNITS = {"": 0, "%": -2, "k": 3, "M": 6, "B": 9, "T": 12}  # powers of ten
_ESCAPE = re.compile(r"\\(.)")
_ESCAPED = {'"': '"', "\\": "\\", "n": "\n", "r": "\r", "t": "\t"}


class Mistake(Exception):
    """What is wrong with a statement that has to be given up."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        self.diagnostic = diagnostic
        super().__init__(diagnostic.message)


class Builder:
    """Makes the nodes of one source. Raises `Mistake` over numbers and texts that the grammar cannot judge."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.text = source.text
        self.statement = Span(source, 0, 0)  # the span of the statement that is being made
        self._numbers: dict[str, tuple[Fraction, bool]] = {}

    # --- what this file is ------------------------------------------------------------------------------

    def doc(self, parts: Parts) -> ast.Doc:
        return ast.Doc(self.statement, self.string(parts[1:]))

    def use(self, parts: Parts) -> ast.Use:
        path = self.string(parts[1:]) if parts[1].kind == "STRING" else self.name(parts[1:])
        return ast.Use(self.statement, path, self.name(parts[3:]) if len(parts) > 2 else None)

    def param(self, parts: Parts) -> ast.Param:
        options = {word.kind: value for word, value in zip(parts[4::2], parts[5::2], strict=True)}
        return ast.Param(self.statement, self.name(parts[1:]), parts[3], options.get("IN"), options.get("EQUAL"))

    def let(self, parts: Parts) -> ast.Let:
        return ast.Let(self.statement, self.name(parts[1:]), parts[3])

    def model(self, parts: Parts) -> ast.Model:
        return ast.Model(self.statement, self._optional_name(parts), tuple(_nodes(parts)))

    def horizon(self, parts: Parts) -> ast.Horizon:
        return ast.Horizon(self.statement, parts[0].kind.lower(), parts[1])

    def seed(self, parts: Parts) -> ast.Seed:
        return ast.Seed(self.statement, parts[1])

    def allow(self, parts: Parts) -> ast.Allow:
        others = parts[2] if len(parts) > 2 else []
        return ast.Allow(self.statement, tuple(self.name([word]) for word in (parts[1], *others)))

    def _optional_name(self, parts: Parts) -> ast.Name | None:
        return self.name(parts[1:]) if len(parts) > 1 and type(parts[1]) is Token else None

    # --- what happens -----------------------------------------------------------------------------------

    def keep(self, parts: Parts) -> ast.Keep:
        return ast.Keep(self.statement, tuple(_nodes(parts)))

    def default(self, parts: Parts) -> ast.Default:
        return ast.Default(self.statement, tuple(_nodes(parts)))

    def stage(self, parts: Parts) -> ast.Stage:
        return ast.Stage(self.statement, self._optional_name(parts), tuple(_nodes(parts)))

    def ramp(self, parts: Parts) -> ast.Ramp:
        return ast.Ramp(self.statement, self._optional_name(parts), tuple(_nodes(parts)))

    def run(self, parts: Parts) -> ast.Run:
        called = parts[2] if len(parts) > 2 and type(parts[2]) is Arguments else None
        attributes = tuple(_nodes(parts[3:] if called else parts[2:]))
        return ast.Run(self.statement, self.name(parts[1:]), called.items if called else (), attributes)

    def require(self, parts: Parts) -> ast.Require:
        sign = parts[2]
        return ast.Require(self.statement, parts[1], self.text[sign.start : sign.end], parts[3])

    def repeat_head(self, parts: Parts) -> ast.Repeat:
        """A `repeat` whose body is still to come."""
        return ast.Repeat(self.statement, parts[0].span(self.source), parts[1], tuple(_nodes(parts[2:])), ())

    # --- attributes -------------------------------------------------------------------------------------

    def attribute(self, parts: Parts) -> ast.Attribute:
        word, _, value = parts
        source, start, end = self.source, word.start, word.end
        name = ast.Name(Span(source, start, end), self.text[start:end])
        return ast.Attribute(Span(source, start, value.span.end), None, name, value)

    def axis_attribute(self, parts: Parts) -> ast.Attribute:
        axis, _, name, _, value = parts
        span = Span(self.source, axis.start, value.span.end)
        return ast.Attribute(span, self.name(parts), self.name([name]), value)

    def block(self, parts: Parts) -> Parts:
        return _nodes(parts)

    def _settings(self, parts: Parts) -> Parts:
        return _nodes(parts)

    # --- values -----------------------------------------------------------------------------------------

    def range(self, parts: Parts) -> ast.Range:
        start, _, stop = parts
        return ast.Range(start.span.to(stop.span), start, stop)

    def list(self, parts: Parts) -> ast.List:
        return ast.List(Span(self.source, parts[0].start, parts[-1].end), tuple(_nodes(parts)))

    def hole(self, parts: Parts) -> ast.Hole:
        return ast.Hole(parts[0].span(self.source))

    def binary(self, parts: Parts) -> ast.Binary:
        left, sign, right = parts
        span = Span(self.source, left.span.start, right.span.end)
        return ast.Binary(span, self.text[sign.start], left, right)

    add = sub = mul = div = binary

    def neg(self, parts: Parts) -> ast.Unary:
        sign, operand = parts
        return ast.Unary(Span(self.source, sign.start, operand.span.end), operand)

    def group(self, parts: Parts) -> ast.Value:
        """A value in parentheses: the same value, but its span takes them in."""
        return replace(parts[1], span=Span(self.source, parts[0].start, parts[2].end))

    def name(self, parts: Parts) -> ast.Name:
        start, end = parts[0].start, parts[0].end
        return ast.Name(Span(self.source, start, end), self.text[start:end])

    def call(self, parts: Parts) -> ast.Call:
        word, args = parts
        return ast.Call(Span(self.source, word.start, args.end), self.name(parts), args.items)

    def args(self, parts: Parts) -> "Arguments":
        return Arguments(tuple(_nodes(parts)), parts[-1].end)

    def argument(self, parts: Parts) -> ast.Argument:
        value = parts[-1]
        if len(parts) == 1:
            return ast.Argument(value.span, None, value)
        return ast.Argument(Span(self.source, parts[0].start, value.span.end), self.name(parts), value)

    def string(self, parts: Parts) -> ast.String:
        token = parts[0]
        value = self.text[token.start + 1 : token.end - 1]
        if "\\" in value:
            value = _ESCAPE.sub(lambda match: self._unescape(match, token.start + 1), value)
        return ast.String(token.span(self.source), value)

    def _unescape(self, match: re.Match[str], offset: int) -> str:
        if match[1] in _ESCAPED:
            return _ESCAPED[match[1]]
        span = Span(self.source, offset + match.start(), offset + match.end())
        raise Mistake(
            Diagnostic(
                "string-escape",
                f"`{match[0]}` means nothing in a text",
                span,
                help=r"write \\ for a backslash; the others are \" \n \r \t",
                fix=Edit(span, rf"\{match[0]}"),
            )
        )

    def number(self, parts: Parts) -> ast.Number:
        token = parts[0]
        start, end = token.start, token.end
        span = Span(self.source, start, end)
        written = self.text[start:end]
        known = self._numbers.get(written)
        if known is None:
            known = self._numbers[written] = _read_number(written, span)
        return ast.Number(span, *known)


class Arguments:
    """What stands in the parentheses of a call, and where they end."""

    __slots__ = ("end", "items")

    def __init__(self, items: tuple[ast.Argument, ...], end: int) -> None:
        self.items = items
        self.end = end


def gather(parts: Parts) -> Parts:
    """The parts of a repetition so far, without the signs between them."""
    so_far = parts[0] if type(parts[0]) is list else []
    for part in parts:
        if part is not so_far and (type(part) is not Token or part.kind == "NAME"):
            so_far.append(part)
    return so_far


def _nodes(parts: Parts) -> Parts:
    """The nodes among the parts of a rule."""
    nodes: list[Any] = []
    for part in parts:
        if type(part) is list:
            nodes += part
        elif type(part) is not Token:
            nodes.append(part)
    return nodes


def _read_number(written: str, span: Span) -> tuple[Fraction, bool]:
    """The value of a literal, and whether it is a count (rule 1). Raises `Mistake`, before it gets large."""
    match = _NUMBER.fullmatch(written)
    assert match, "the grammar's NUMBER is read here"
    whole, decimals, sign, exponent, unit = match.groups("")
    digits = whole.replace("_", "").lstrip("0") + decimals
    exponent = exponent.lstrip("0")
    if len(digits) > 400 or len(exponent) > 3:
        raise _too_large(written, span)
    power = int(sign + exponent if exponent else 0) + _UNITS[unit] - len(decimals)
    value = int(digits or "0") * Fraction(10) ** power
    if max(value.numerator, value.denominator).bit_length() > NUMBER_BITS:
        raise _too_large(written, span)
    whole_unit = unit not in ("", "%")
    if whole_unit and value.denominator != 1:
        raise Mistake(
            Diagnostic(
                "number-not-whole",
                f"`{written}` is {float(value)}, which is not a whole number",
                span,
                help=f"the unit {unit} counts whole things: write more digits, or leave the unit out",
            )
        )
    is_count = whole_unit or (not unit and (not decimals or bool(exponent)))
    return value, is_count and value.denominator == 1


def _too_large(written: str, span: Span) -> Mistake:
    return Mistake(
        Diagnostic(
            "limit-number",
            f"`{shortened(written)}` needs more than {NUMBER_BITS} bits",
            span,
            help=f"numbers are exact and have at most {NUMBER_BITS} bits above and below the fraction bar",
        )
    )
