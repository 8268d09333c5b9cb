"""Mistakes of =, :, -, commas and comparisons."""

from raptr_dsl.diagnostics import Diagnostic, Edit
from raptr_dsl.source import Span
from raptr_dsl.syntax.mistakes.place import NAME, VALUE_STARTS, Place, shown
from raptr_dsl.syntax.tables import END

_DURATIONS = ("steps", "tokens")  # of other words, `stage my first depth=3` may mean a name in two words
_TIMES = ("for", "during", "over", "time", "duration", "length")


def double_equals(place: Place) -> Diagnostic | None:
    if place.kind() != "COMPARE" or "EQUAL" not in place.expected:
        return None
    return Diagnostic(
        "equals-double",
        f"`{place.span().text}` compares, and here a value is given",
        place.span(),
        help="write =",
        fix=Edit(place.span(), "="),
    )


def single_equals(place: Place) -> Diagnostic | None:
    if place.kind() != "EQUAL" or "COMPARE" not in place.expected:
        return None
    return Diagnostic(
        "comparison-unknown",
        "`=` gives a value, and here two are compared",
        place.span(),
        help="write ==, <= or >=",
        fix=Edit(place.span(), "=="),
    )


def colon(place: Place) -> Diagnostic | None:
    if place.kind() != "COLON":
        return None
    key_follows = place.kind(1) == "NAME" and place.kind(2) in ("EQUAL", "COLON", "DOT")
    if place.kind(-1) == "NAME" and "EQUAL" in place.expected and not key_follows and place.kind(1) != END:
        key = place.span(-1).text
        return Diagnostic(
            "colon-for-equals",
            f"`{key}` is given with a colon",
            place.span(),
            help=f"write {key}=",
            fix=Edit(Span(place.source, place.span(-1).end, place.span(1).start), "="),
        )
    return Diagnostic(
        "colon-extra",
        "no colon stands here",
        place.span(),
        help="leave it out",
        fix=Edit(place.span(), ""),
    )


def hyphen(place: Place) -> Diagnostic | None:
    if place.kind() != "MINUS" or place.kind(-1) != "NAME" or place.wants_value() or not place.touches(-1):
        return None
    last = 0
    while place.kind(last) == "MINUS" and place.kind(last + 1) in ("NAME", "NUMBER") and place.touches(last):
        last += 2
        if not place.touches(last - 1):
            break
    span = place.span(-1).to(place.span(last if last == 0 else last - 1))
    name = span.text.replace("-", "_")
    if last == 0 or not NAME.fullmatch(name):
        return None
    return Diagnostic(
        "name-hyphen",
        f"`{span.text}` is a subtraction, not a name",
        span,
        help=f"names have no hyphen: write {name}",
        fix=Edit(span, name),
    )


def equals_missing(place: Place) -> Diagnostic | None:
    """`stage depth 6/12`, `let half 1/2`, `stage full steps rest`."""
    if place.kind(-1) != "NAME" or "EQUAL" not in place.expected or place.kind() not in VALUE_STARTS:
        return None
    is_value = place.span(-1).text in _DURATIONS and place.kind(1) not in ("EQUAL", "DOT")
    if place.kind() in ("NAME", "MINUS") and place.expected != {"EQUAL"} and not is_value:
        return None
    key = place.span(-1).text
    if key.lower() in _TIMES and place.word in ("stage", "ramp", "run", "repeat"):
        return Diagnostic(
            "equals-missing",
            f"`{key}` is no word for how long something lasts",
            place.span(-1).to(place.span()),
            help=f"write steps={shown(place.run())}",
            fix=Edit(Span(place.source, place.span(-1).start, place.span().start), "steps="),
        )
    sign = " = " if place.word == "let" else "="
    return Diagnostic(
        "equals-missing",
        f"no `=` stands between `{key}` and its value",
        place.span(-1).to(place.span()),
        help=f"write {key}{sign}{shown(place.run())}",
        fix=Edit(place.gap(), sign),
    )


def comma_extra(place: Place) -> Diagnostic | None:
    if place.kind() != "COMMA" or END not in place.expected:
        return None
    end = place.span().end
    parted = place.source.text[end : end + 1].isspace()
    return Diagnostic(
        "comma-extra",
        "attributes have no commas between them",
        place.span(),
        help="leave it out" if parted else "write a space",
        fix=Edit(place.span(), "" if parted else " "),
    )


def comma_missing(place: Place) -> Diagnostic | None:
    if "COMMA" not in place.expected or place.kind() not in VALUE_STARTS or END in place.expected:
        return None
    before = place.span(-1)
    return Diagnostic(
        "comma-missing",
        f"no comma stands between `{before.text}` and `{shown(place.span())}`",
        Span(place.source, before.end, before.end),
        help="write a comma between two values",
        fix=Edit(Span(place.source, before.end, before.end), ","),
    )
