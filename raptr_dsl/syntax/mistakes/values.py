"""Mistakes of values: missing ones, half numbers, and quotes in the wrong place."""

import re
from itertools import takewhile

from raptr_dsl.diagnostics import Diagnostic, Edit
from raptr_dsl.source import Span
from raptr_dsl.syntax.characters import shortened
from raptr_dsl.syntax.mistakes.place import ENDS, Place
from raptr_dsl.syntax.tables import END

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_UNITS = {"k": "k", "K": "k", "M": "M", "m": "M", "B": "B", "T": "T"}
_ITEMS = ("NAME", "NUMBER")
_DASHED = re.compile(r"[A-Za-z_][A-Za-z0-9_]*([-.][A-Za-z0-9_]+)*")


def value_skipped(place: Place) -> Diagnostic | None:
    """`depth= steps=20%`, `depth= width.sample=prefix`: the next key was taken for the value."""
    is_key = place.kind() == "EQUAL" or (place.kind(), place.kind(1), place.kind(2)) == (
        "DOT",
        "NAME",
        "EQUAL",
    )
    if not is_key or (place.kind(-2), place.kind(-1)) != ("EQUAL", "NAME"):
        return None
    return _no_value(place, place.index - 3, place.span(-2).end)


def value_missing(place: Place) -> Diagnostic | None:
    if not place.wants_value() or place.kind() not in (*ENDS, "COMMA", END):
        return None
    if place.kind(-1) == "EQUAL":
        return _no_value(place, place.index - 2, place.span(-1).end)
    if place.kind(-1) in ("LPAR", "LSQB", "COMMA") or place.index == 1:
        return None
    before = place.span(-1)
    return Diagnostic(
        "value-missing",
        f"nothing follows `{before.text}`",
        Span(place.source, before.end, before.end),
        label="a value is missing here",
        help=f"write a value after {before.text}, or leave it out",
    )


def equals_and_value_missing(place: Place) -> Diagnostic | None:
    """`stage full depth`, `stage full depth steps=20%`."""
    if place.kind(-1) != "NAME" or not place.expected <= {"EQUAL", "DOT"}:
        return None
    if place.kind() not in (*ENDS, "NAME", "COMMA", END) or (place.kind() == "NAME" and "DOT" not in place.expected):
        return None
    advice = ""
    if place.index == 3 and place.kind(-2) == "NAME" and place.tokens[0].kind in ("STAGE", "RAMP"):
        advice = f", or {place.text(1)}_{place.text(2)} if both are the name"
    return _no_value(place, place.index - 1, place.span(-1).end, advice)


def _no_value(place: Place, key: int, end: int, advice: str = "") -> Diagnostic:
    name = place.text(key)
    return Diagnostic(
        "value-missing",
        f"`{name}` has no value",
        Span(place.source, end, end),
        label="a value is missing here",
        help=f"write {name}=…{advice}",
    )


def unit_apart(place: Place) -> Diagnostic | None:
    """`steps 100 k`, and `steps=100 k`, where the unit was taken for the next key."""
    offset = next((i for i in (0, -1) if place.kind(i) == "NAME" and place.kind(i - 1) == "NUMBER"), None)
    if offset is None or place.span(offset).text not in _UNITS or place.kind(offset + 1) in ("EQUAL", "DOT"):
        return None
    number, unit = place.span(offset - 1), place.span(offset)
    written = number.text + _UNITS[unit.text]
    return Diagnostic(
        "unit-space",
        f"`{unit.text}` stands apart from its number",
        number.to(unit),
        help=f"write {written}",
        fix=Edit(number.to(unit), written),
    )


def brackets_missing(place: Place) -> Diagnostic | None:
    """`keep depth=first, last`, `keep depth=first last`."""
    if place.word != "keep" or place.kind() not in ("COMMA", END):
        return None
    first = next((i + 1 for i in range(place.index - 1, 0, -1) if place.tokens[i].kind == "EQUAL"), place.index)
    items = list(takewhile(lambda token: token.kind in (*_ITEMS, "COMMA"), place.tokens[first:]))
    if place.tokens[first + len(items) :]:
        items = items[:-1]  # the key of the next attribute
    values = [token.span(place.source) for token in items if token.kind in _ITEMS]
    if len(values) < 2:
        return None
    written = f"[{', '.join(value.text for value in values)}]"
    span = values[0].to(values[-1])
    return Diagnostic(
        "brackets-missing",
        "several values stand without brackets",
        span,
        help=f"write {shortened(written)}",
        fix=Edit(span, written),
    )


def name_quoted(place: Place) -> Diagnostic | None:
    if place.kind() != "STRING" or "NAME" not in place.expected or place.wants_value():
        return None
    content = place.span().text[1:-1]
    name = content if "DASHED" in place.expected else re.sub(r"\W+", "_", content, flags=re.ASCII)
    fits = (_DASHED if "DASHED" in place.expected else _NAME).fullmatch(name) is not None
    return Diagnostic(
        "name-quoted",
        "a name stands without quotes",
        place.span(),
        help=f"write {name}" if fits else "names are made of A–Z, a–z, 0–9 and _",
        fix=Edit(place.span(), name) if fits else None,
    )


def text_unquoted(place: Place) -> Diagnostic | None:
    if place.index != 1 or place.at_end or "STRING" not in place.expected or place.wants_value():
        return None
    is_text = place.word == "doc"
    span = place.span().to(place.tokens[-1].span(place.source)) if is_text else place.run()
    return Diagnostic(
        "text-unquoted",
        "a text stands in double quotes" if is_text else "a file is named in double quotes",
        span,
        help='write " before and after it',
        fix=Edit(span, f'"{span.text}"') if not set(span.text) & set('"\\') else None,
    )


def half_number(place: Place) -> Diagnostic | None:
    """`6.` and `.5`."""
    if place.kind() != "DOT":
        return None
    if place.kind(-1) == "NUMBER" and place.touches(-1):
        span, written = place.span(-1).to(place.span()), place.span(-1).text
    elif place.wants_value() and place.kind(1) == "NUMBER" and place.touches(0):
        span, written = place.span().to(place.span(1)), "0." + place.span(1).text
    else:
        return None
    return Diagnostic(
        "number-malformed",
        f"`{span.text}` lacks a digit beside its point",
        span,
        help=f"write {written}",
        fix=Edit(span, written),
    )
