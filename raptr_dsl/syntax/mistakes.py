"""A word that fits nothing, or an end that comes too early → a diagnostic in the user's words.

Each function below knows one mistake by its surroundings and says None to any other; the first that knows it speaks.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from raptr_dsl.diagnostics import Diagnostic, Edit, Label, did_you_mean
from raptr_dsl.source import Source, Span
from raptr_dsl.syntax.automaton import Unexpected
from raptr_dsl.syntax.characters import shortened
from raptr_dsl.syntax.tables import END
from raptr_dsl.syntax.tokens import Token

FORMS = {
    "doc": 'doc "what this schedule is"',
    "use": 'use std/raptr, or use "./file.raptr" as name',
    "param": "param name: fraction in 1/12..1 = 6/12",
    "let": "let name = 1/2",
    "model": "model bert-base, or model layers=12 heads=12 …",
    "steps": "steps 675k",
    "tokens": "tokens 2B",
    "seed": "seed 17",
    "allow": "allow partial",
    "keep": "keep depth=[first, last]",
    "default": "default scale=sqrt",
    "stage": "stage name depth=6/12 steps=20%",
    "ramp": "ramp name stages=4 depth=6/12..12/12 steps=80%",
    "run": "run schedule(start=6/12) steps=80%",
    "repeat": "repeat 3 { … }",
    "require": "require flops <= 75%",
}
_OTHER_WORDS = {
    "import": "use", "include": "use", "from": "use", "const": "let", "var": "let", "def": "let", "set": "let",
    "phase": "stage", "for": "repeat", "loop": "repeat", "assert": "require", "horizon": "steps", "call": "run",
}  # fmt: skip
_SIGNS = {
    "EQUAL": "=", "COLON": ":", "COMMA": ",", "DOTS": "..", "DOT": ".", "PLUS": "+", "MINUS": "-", "STAR": "*",
    "SLASH": "/", "LPAR": "(", "RPAR": ")", "LSQB": "[", "RSQB": "]", "LBRACE": "{", "RBRACE": "}",
    "IN": "in", "AS": "as",
}  # fmt: skip
_VALUE = {"NUMBER", "NAME", "LPAR"}  # where all of these may stand, a value may
_VALUE_STARTS = {"NUMBER", "NAME", "STRING", "LPAR", "LSQB", "MINUS", "HOLE"}
_ENDS = {"RPAR", "RSQB", "RBRACE", "_NL", "SEMICOLON"}
_OPERATORS = {"PLUS", "MINUS", "STAR", "SLASH"}
_WORDS = {
    "NAME": "a name", "NUMBER": "a number", "STRING": 'a text in "double quotes"', "PATH": "the path of a library",
    "COMPARE": "<=, >= or ==", "HOLE": "`?`",
}  # fmt: skip
_OPEN_LINE = re.compile(
    r"(?P<outer>[ \t]*)(?:stage|ramp|run|model|keep|default)\b[^\n#{};]*?(?P<end>[ \t]*\r?\n(?P<inner>[ \t]*))\Z"
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DASHED = re.compile(r"[A-Za-z_][A-Za-z0-9_]*([-.][A-Za-z0-9_]+)*")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a statement stopped making sense."""

    source: Source
    tokens: list[Token]
    index: int
    expected: frozenset[str]

    @property
    def word(self) -> str:
        """The word that the statement begins with."""
        return self.text(0)

    @property
    def at_end(self) -> bool:
        return self.index == len(self.tokens)

    def kind(self, offset: int = 0) -> str:
        """The terminal at an offset from the word that fits nothing, END beyond the statement."""
        index = self.index + offset
        return self.tokens[index].kind if 0 <= index < len(self.tokens) else END

    def text(self, index: int) -> str:
        return self.tokens[index].span(self.source).text

    def span(self, offset: int = 0) -> Span:
        """The span of the token at an offset from the word that fits nothing; beyond the last, where it would begin."""
        index = self.index + offset
        if index < len(self.tokens):
            return self.tokens[index].span(self.source)
        return Span(self.source, self.tokens[-1].end, self.tokens[-1].end)

    def gap(self) -> Span:
        """What stands between the word that fits nothing and the one before it."""
        return Span(self.source, self.span(-1).end, self.span().start)

    def run(self, offset: int = 0) -> Span:
        """The token at an offset and all that follow it without a blank."""
        last = offset
        while self.touches(last):
            last += 1
        return self.span(offset).to(self.span(last))

    def wants_value(self) -> bool:
        return self.expected >= _VALUE

    def touches(self, offset: int) -> bool:
        """Whether nothing stands between the token at an offset and the one after it."""
        return self.kind(offset + 1) != END and self.span(offset).end == self.span(offset + 1).start


def syntax_mistake(source: Source, tokens: list[Token], unexpected: Unexpected) -> Diagnostic:
    """What is wrong with a statement that does not parse."""
    place = Place(source, tokens, unexpected.index, unexpected.expected)
    for known in _KNOWN_AT_START if place.index == 0 else _KNOWN:
        if diagnostic := known(place):
            return diagnostic
    return _anything(place)


# --- the first word -----------------------------------------------------------------------------------------


def _adrift(place: Place) -> Diagnostic | None:
    """An attribute at the start of a line; of `steps=20%`, only where its line continues the one before."""
    sign, is_word = place.tokens[1:2], place.tokens[0].kind == "NAME"
    before = _line_before(place)
    if not sign or sign[0].kind not in ("EQUAL", "DOT") or not (is_word or (before and _is_deeper(before))):
        return None
    return Diagnostic(
        "attribute-adrift",
        f"`{place.word}` is an attribute, and its line begins no statement",
        place.tokens[0].span(place.source),
        help="attributes follow their statement on its line, or stand between { and } after it",
        fix=Edit(Span(place.source, *before.span("end")), " ") if before else None,
    )


def _line_before(place: Place) -> re.Match[str] | None:
    """The line before a statement, if that could still take attributes."""
    text, start = place.source.text, place.tokens[0].start
    line = text.rfind("\n", 0, start)
    return _OPEN_LINE.match(text, text.rfind("\n", 0, max(line, 0)) + 1, start)


def _is_deeper(line: re.Match[str]) -> bool:
    """Whether what follows a line is indented more than that line."""
    return len(line["inner"].expandtabs(8)) > len(line["outer"].expandtabs(8))


def _unknown_statement(place: Place) -> Diagnostic | None:
    span = place.span()
    if place.kind() != "NAME":
        return Diagnostic(
            "statement-unknown",
            f"no statement begins with `{_shown(span)}`",
            span,
            help=f"a statement begins with one of {', '.join(FORMS)}",
        )
    meant = _OTHER_WORDS.get(place.word.lower()) or did_you_mean(place.word.lower(), FORMS)
    return Diagnostic(
        "statement-unknown",
        f"there is no statement `{_shown(span)}`",
        span,
        help=f"did you mean {meant}?" if meant else f"the statements are {', '.join(FORMS)}",
        fix=Edit(span, meant) if meant else None,
    )


# --- anywhere -----------------------------------------------------------------------------------------------


def _comment(place: Place) -> Diagnostic | None:
    first = next((i for i in (-1, 0) if (place.kind(i), place.kind(i + 1)) in _COMMENTS and place.touches(i)), None)
    if first is None:
        return None
    span = place.span(first).to(place.span(first + 1))
    return Diagnostic(
        "comment-unknown",
        f"`{span.text}` begins no comment",
        span,
        help="a comment begins with # and ends with its line",
        fix=None if span.text == "/*" else Edit(span, "#"),
    )


def _keyword_equals(place: Place) -> Diagnostic | None:
    if place.index != 1 or place.kind() != "EQUAL":
        return None
    next_one = place.span(1)
    return Diagnostic(
        "equals-extra",
        f"the statement `{place.word}` takes no `=`",
        place.span(),
        help=f"write {FORMS[place.word]}",
        fix=Edit(Span(place.source, place.span(-1).end, next_one.start), " ") if place.kind(1) != END else None,
    )


def _value_skipped(place: Place) -> Diagnostic | None:
    """`depth= steps=20%`, `depth= width.sample=prefix`: the next key was taken for the value."""
    is_key = place.kind() == "EQUAL" or (place.kind(), place.kind(1), place.kind(2)) == (
        "DOT",
        "NAME",
        "EQUAL",
    )
    if not is_key or (place.kind(-2), place.kind(-1)) != ("EQUAL", "NAME"):
        return None
    return _no_value(place, place.index - 3, place.span(-2).end)


def _value_missing(place: Place) -> Diagnostic | None:
    if not place.wants_value() or place.kind() not in (*_ENDS, "COMMA", END):
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


def _equals_and_value_missing(place: Place) -> Diagnostic | None:
    """`stage full depth`, `stage full depth steps=20%`."""
    if place.kind(-1) != "NAME" or not place.expected <= {"EQUAL", "DOT"}:
        return None
    if place.kind() not in (*_ENDS, "NAME", "COMMA", END) or (place.kind() == "NAME" and "DOT" not in place.expected):
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


def _joined(place: Place) -> Diagnostic | None:
    """Two statements on one line: `steps 1k seed 17`, `stage a steps=20% stage b steps=rest`."""
    if place.kind() == "NAME" and END in place.expected and place.span().text in FORMS:
        second = place.index
    elif place.kind(-1) == "NAME" and place.index > 2 and place.span(-1).text in FORMS.keys() - {"steps", "tokens"}:
        second = place.index - 1
    elif place.kind(-1) == "RBRACE" and place.expected == {END}:
        second = place.index
    else:
        return None
    if place.at_end or place.kind() in ("EQUAL", "DOT"):
        return None
    if place.kind(-1) == "RBRACE" and place.kind(1) in ("EQUAL", "DOT"):
        return None  # an attribute after the block
    span = place.tokens[second].span(place.source)
    return Diagnostic(
        "statement-joined",
        f"`{_shown(span)}` stands on the line of another statement",
        span,
        related=(Label(place.tokens[0].span(place.source), "which began here"),),
        help="begin a new line, or write ; between them",
        fix=Edit(Span(place.source, place.tokens[second - 1].end, span.start), "\n"),
    )


def _after_block(place: Place) -> Diagnostic | None:
    if place.kind(-1) != "RBRACE" or place.kind() != "NAME":
        return None
    return Diagnostic(
        "syntax-unexpected",
        f"`{place.span().text}` stands after the block of its statement",
        place.span(),
        help="write it before the { or inside",
    )


def _double_equals(place: Place) -> Diagnostic | None:
    if place.kind() != "COMPARE" or "EQUAL" not in place.expected:
        return None
    return Diagnostic(
        "equals-double",
        f"`{place.span().text}` compares, and here a value is given",
        place.span(),
        help="write =",
        fix=Edit(place.span(), "="),
    )


def _single_equals(place: Place) -> Diagnostic | None:
    if place.kind() != "EQUAL" or "COMPARE" not in place.expected:
        return None
    return Diagnostic(
        "comparison-unknown",
        "`=` gives a value, and here two are compared",
        place.span(),
        help="write ==, <= or >=",
        fix=Edit(place.span(), "=="),
    )


def _colon(place: Place) -> Diagnostic | None:
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


def _hyphen(place: Place) -> Diagnostic | None:
    if place.kind() != "MINUS" or place.kind(-1) != "NAME" or place.wants_value() or not place.touches(-1):
        return None
    last = 0
    while place.kind(last) == "MINUS" and place.kind(last + 1) in ("NAME", "NUMBER") and place.touches(last):
        last += 2
        if not place.touches(last - 1):
            break
    span = place.span(-1).to(place.span(last if last == 0 else last - 1))
    name = span.text.replace("-", "_")
    if last == 0 or not _NAME.fullmatch(name):
        return None
    return Diagnostic(
        "name-hyphen",
        f"`{span.text}` is a subtraction, not a name",
        span,
        help=f"names have no hyphen: write {name}",
        fix=Edit(span, name),
    )


def _equals_missing(place: Place) -> Diagnostic | None:
    """`stage depth 6/12`, `let half 1/2`."""
    if place.kind(-1) != "NAME" or "EQUAL" not in place.expected or place.kind() not in _VALUE_STARTS:
        return None
    if place.kind() in ("NAME", "MINUS") and place.expected != {"EQUAL"}:
        return None
    key = place.span(-1).text
    sign = " = " if place.word == "let" else "="
    return Diagnostic(
        "equals-missing",
        f"no `=` stands between `{key}` and its value",
        place.span(-1).to(place.span()),
        help=f"write {key}{sign}{_shown(place.run())}",
        fix=Edit(place.gap(), sign),
    )


def _comma_extra(place: Place) -> Diagnostic | None:
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


def _comma_missing(place: Place) -> Diagnostic | None:
    if "COMMA" not in place.expected or place.kind() not in _VALUE_STARTS or END in place.expected:
        return None
    before = place.span(-1)
    return Diagnostic(
        "comma-missing",
        f"no comma stands between `{before.text}` and `{_shown(place.span())}`",
        Span(place.source, before.end, before.end),
        help="write a comma between two values",
        fix=Edit(Span(place.source, before.end, before.end), ","),
    )


def _name_quoted(place: Place) -> Diagnostic | None:
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


def _text_unquoted(place: Place) -> Diagnostic | None:
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


def _half_number(place: Place) -> Diagnostic | None:
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


def _incomplete(place: Place) -> Diagnostic | None:
    if not place.at_end:
        return None
    return Diagnostic(
        "statement-incomplete",
        f"the statement `{place.word}` is not complete",
        place.span(),
        label=f"expected {_listed(place.expected)}",
        help=f"its form is: {FORMS[place.word]}",
    )


def _anything(place: Place) -> Diagnostic:
    return Diagnostic(
        "syntax-unexpected",
        f"`{_shown(place.span())}` does not fit here" if place.kind() != "_NL" else "the line ends too early",
        place.span(),
        label=f"expected {_listed(place.expected)}",
        help=f"the form is: {FORMS[place.word]}" if place.word in FORMS else "",
    )


_COMMENTS = {("SLASH", "SLASH"), ("SLASH", "STAR"), ("MINUS", "MINUS")}
_KNOWN_AT_START: tuple[Callable[[Place], Diagnostic | None], ...] = (_comment, _adrift, _unknown_statement)
_KNOWN: tuple[Callable[[Place], Diagnostic | None], ...] = (
    _comment,
    lambda place: _adrift(place) if place.index == 1 else None,
    _keyword_equals,
    _value_skipped,
    _joined,
    _after_block,
    _value_missing,
    _equals_and_value_missing,
    _double_equals,
    _single_equals,
    _colon,
    _hyphen,
    _equals_missing,
    _comma_extra,
    _comma_missing,
    _name_quoted,
    _text_unquoted,
    _half_number,
    _incomplete,
)


def _shown(span: Span) -> str:
    return shortened(span.text)


def _listed(expected: frozenset[str]) -> str:
    """What may stand in a place, in words."""
    rest = set(expected)
    words: list[str] = []
    if rest >= _VALUE:
        words.append("a value")
        rest -= _VALUE_STARTS
    if rest >= _OPERATORS:
        words.append("an operator")
        rest -= _OPERATORS
    words += [text for kind, text in _WORDS.items() if kind in rest]
    words += [f"`{sign}`" for kind, sign in _SIGNS.items() if kind in rest]
    if END in rest:
        words.append("the end of the statement")
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
