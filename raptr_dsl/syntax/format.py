"""Syntax tree → text in the one canonical layout: the inverse of `parse`, up to spans and comments."""

from collections.abc import Iterator
from fractions import Fraction

from raptr_dsl.syntax import ast

WIDTH = 100  # a longer statement gets { } and a line for each attribute
INDENT = "  "

_PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2}
_UNARY = 3
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r", "\t": r"\t"})


def format_file(file: ast.File) -> str:
    """The text of a file: `parse(format_file(file)) == file`, up to spans."""
    return "".join(f"{line}\n" for statement in file.statements for line in _lines(statement))


def format_value(value: ast.Value) -> str:
    """The text of a value: `6/12`, `draw(1/8, 1/4)`, `12.5%`."""
    match value:
        case ast.Number():
            return _number(value)
        case ast.String(value=text):
            return f'"{text.translate(_ESCAPES)}"'
        case ast.Name(text=text):
            return text
        case ast.Unary(operand=operand):
            return f"-{_operand(operand, _UNARY)}"
        case ast.Binary(op=op, left=left, right=right):
            level = _PRECEDENCE[op]
            return f"{_operand(left, level)}{op}{_operand(right, level + 1)}"
        case ast.Call(name=name, args=args):
            return f"{name.text}({_arguments(args)})"
        case ast.Range(start=start, stop=stop):
            return f"{format_value(start)}..{format_value(stop)}"
        case ast.List(items=items):
            return f"[{', '.join(map(format_value, items))}]"
        case ast.Hole():
            return "?"


def _operand(value: ast.Value, level: int) -> str:
    """An operand, in parentheses if it binds less tightly than `level`."""
    tightness = _PRECEDENCE[value.op] if isinstance(value, ast.Binary) else _UNARY
    text = format_value(value)
    return text if tightness >= level else f"({text})"


def _number(number: ast.Number) -> str:
    """A count as `675k`, a share as `20%`, both exact."""
    value = number.value
    if number.is_count:
        return _count(value.numerator)
    percent = value <= 1
    text = _decimal(value * 100 if percent else value)
    if text is None:
        return f"({value.numerator}/{value.denominator})"  # no literal has this value
    return f"{text}%" if percent else text if "." in text else f"{text}.0"


def _count(value: int) -> str:
    written = str(value)
    digits = written.rstrip("0")
    if len(written) - len(digits) >= 15:
        mantissa = f"{digits[0]}.{digits[1:]}".rstrip(".")
        return f"{mantissa}e{len(written) - 1}"
    for unit, size in (("T", 10**12), ("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if value and value % size == 0:
            return f"{value // size}{unit}"
    return written


def _decimal(value: Fraction) -> str | None:
    """The exact decimals of a value, None if they never end."""
    rest, powers = value.denominator, []
    for prime in (2, 5):
        power = 0
        while rest % prime == 0:
            rest //= prime
            power += 1
        powers.append(power)
    if rest != 1:
        return None
    places = max(powers)
    digits = str(int(value * 10**places)).zfill(places + 1)
    return f"{digits[:-places]}.{digits[-places:]}" if places else digits


def _arguments(args: tuple[ast.Argument, ...]) -> str:
    return ", ".join(
        f"{arg.name.text}={format_value(arg.value)}" if arg.name else format_value(arg.value) for arg in args
    )


def _attribute(attribute: ast.Attribute) -> str:
    axis = f"{attribute.axis.text}." if attribute.axis else ""
    return f"{axis}{attribute.name.text}={format_value(attribute.value)}"


def _lines(statement: ast.Statement) -> Iterator[str]:
    """The lines of a statement, as they stand at the left margin."""
    match statement:
        case ast.Doc(text=text):
            yield f"doc {format_value(text)}"
        case ast.Use(path=path, alias=alias):
            yield f"use {format_value(path)}" + (f" as {alias.text}" if alias else "")
        case ast.Param(name=name, type=kind, bounds=bounds, default=default):
            within = f" in {format_value(bounds.start)} .. {format_value(bounds.stop)}" if bounds else ""
            given = f" = {format_value(default)}" if default else ""
            yield f"param {name.text}: {format_value(kind)}{within}{given}"
        case ast.Let(name=name, value=value):
            yield f"let {name.text} = {format_value(value)}"
        case ast.Horizon(unit=unit, value=value):
            yield f"{unit} {format_value(value)}"
        case ast.Seed(value=value):
            yield f"seed {format_value(value)}"
        case ast.Allow(names=names):
            yield f"allow {', '.join(name.text for name in names)}"
        case ast.Require(metric=metric, op=op, value=value):
            yield f"require {format_value(metric)} {op} {format_value(value)}"
        case ast.Keep(attributes=attributes) | ast.Default(attributes=attributes):
            word = "keep" if isinstance(statement, ast.Keep) else "default"
            yield from _long(word, attributes) if attributes else [f"{word} {{}}"]
        case ast.Model(name=name) | ast.Stage(name=name) | ast.Ramp(name=name):
            word = type(statement).__name__.lower()
            yield from _long(f"{word} {name.text}" if name else word, statement.attributes)
        case ast.Run(target=target, args=args, attributes=attributes):
            yield from _long(f"run {target.text}" + (f"({_arguments(args)})" if args else ""), attributes)
        case ast.Repeat(times=times, attributes=attributes, body=body):
            yield " ".join(["repeat", format_value(times), *map(_attribute, attributes), "{"])
            for inner in body:
                yield from (f"{INDENT}{line}" for line in _lines(inner))
            yield "}"


def _long(head: str, attributes: tuple[ast.Attribute, ...]) -> Iterator[str]:
    """A statement on one line if it fits, else with one attribute a line."""
    written = list(map(_attribute, attributes))
    line = " ".join([head, *written])
    if len(line) <= WIDTH or not written:
        yield line
        return
    yield f"{head} {{"
    yield from (f"{INDENT}{attribute}" for attribute in written)
    yield "}"
