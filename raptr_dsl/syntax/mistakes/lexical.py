"""Words that are none of the language's → a diagnostic in the user's words."""

import re
from itertools import pairwise

from raptr_dsl.diagnostics import Diagnostic, Edit
from raptr_dsl.source import Source, Span
from raptr_dsl.syntax.characters import describe, plain, shortened
from raptr_dsl.syntax.outline import Piece
from raptr_dsl.syntax.tokens import Token

_COMPARISONS = {"<": "<=", ">": ">=", "!": "==", "<>": "=="}
_OTHER_QUOTES = re.compile(r"""(['`])([^'`"\\\n]*)\1""")
_OTHER_CASE = re.compile(r"([0-9][0-9_]*(?:\.[0-9]+)?)([Kmbt])")
_BEFORE_POINT = re.compile(r"(?<!\w)[0-9][0-9_]*\.\Z")
_LINE_END = re.compile(r"[ \t]*\r?\n[ \t]*")
_SIGNS = {
    "^": "there are no powers; write the product",
    "&": "several requirements are several statements",
    "@": "leave it out",
    "$": "a parameter is named without a sign",
}


def lexical_mistake(source: Source, piece: Piece) -> Diagnostic:
    """What is wrong with the first word of a statement that is no word of the language."""
    token = piece.mistakes[0]
    span = token.span(source)
    before = next((left for left, right in pairwise(piece.tokens) if right is token), None)
    match token.kind:
        case "UNCLOSED_STRING":
            return _unclosed_string(span)
        case "BROKEN_STRING":
            return _broken_string(span)
        case "MALFORMED_NUMBER":
            return _malformed_number(span)
    if not span.text.isascii():
        return _foreign(source, piece)
    if span.text == "\\":
        return _continuation(span)
    if span.text.isspace():
        return _other_blank(span)
    if span.text[0] in "'`":
        return _other_quotes(span)
    if span.text == "%" and before and before.kind == "NUMBER":
        return _parted_percent(before.span(source).to(span))
    if span.text in _COMPARISONS:
        return _other_comparison(span, before)
    advice = _SIGNS.get(span.text[0])
    return Diagnostic(
        "character-unknown",
        f"{_quoted(span.text)} is not part of the language",
        span,
        help=advice or "leave it out",
        fix=None if advice else Edit(span, ""),
    )


def _unclosed_string(span: Span) -> Diagnostic:
    end = span.start + len(span.text.rstrip())
    return Diagnostic(
        "string-unclosed",
        "this text is not closed",
        Span(span.source, span.start, end),
        help='write " where it ends; a text stands on one line',
        fix=Edit(Span(span.source, end, end), '"'),
    )


def _broken_string(span: Span) -> Diagnostic:
    return Diagnostic(
        "string-unclosed",
        "this text goes on over several lines",
        Span(span.source, span.start, span.start + len(span.text.splitlines()[0])),
        help=r"a text stands on one line: join the lines, or write \n where they part",
        fix=Edit(span, " ".join(line.strip() for line in span.text.splitlines())),
    )


def _malformed_number(span: Span) -> Diagnostic:
    line = span.source.text.rfind("\n", 0, span.start) + 1
    whole_part = _BEFORE_POINT.search(span.source.text[line : span.start])  # the lexer reads `0.5K` as `0.` and `5K`
    if whole_part:
        span = Span(span.source, line + whole_part.start(), span.end)
    other_case = _OTHER_CASE.fullmatch(span.text)
    if other_case:
        written = other_case[1] + other_case[2].swapcase()
        return Diagnostic(
            "number-malformed",
            f"`{span.text}` has no unit of the language",
            span,
            help=f"write {written}; the units are k M B T",
            fix=Edit(span, written),
        )
    return Diagnostic(
        "number-malformed",
        f"`{shortened(span.text)}` is neither a number nor a name",
        span,
        help="numbers are written 12, 0.5, 1_000, 20%, 675k, 1.2e21, with the units k M B T; names begin with a letter",
    )


def _foreign(source: Source, piece: Piece) -> Diagnostic:
    """Letters, digits, signs and blanks of other scripts and of word processors: one diagnostic a statement."""
    spans = [token.span(source) for token in piece.mistakes]
    spans = [span for span in spans if not span.text.isascii()]
    first = spans[0].text
    strange = next(character for character in first if not character.isascii())
    written = plain(first) if len(first) < 100 else None
    more = len(spans) - 1
    others = f"; {more} more of the kind {'follow' if more > 1 else 'follows'}" if more and written is not None else ""
    if strange.isalpha():
        advice = "names are made of A–Z, a–z, 0–9 and _"
        return Diagnostic(
            "name-foreign",
            f"`{shortened(first)}` has a letter that no name can have",
            spans[0],
            label=describe(strange),
            help=f"{advice}: write {written}{others}" if written else advice,
            fix=_rewritten(source, spans),
        )
    advice = {
        None: "it may stand in texts and comments only",
        "": "leave it out",
        " ": "write an ordinary space",
        "\n": "write an ordinary line break",
    }
    return Diagnostic(
        "character-foreign",
        f"{describe(strange)} is not part of the language",
        spans[0],
        help=advice.get(written, f"write {written}") + others,
        fix=_rewritten(source, spans),
    )


def _rewritten(source: Source, spans: list[Span]) -> Edit | None:
    """All of the spans in the characters of the language, what stands between them as it is."""
    text, end = "", spans[0].start
    for span in spans:
        written = plain(span.text) if len(span.text) < 100 else None
        if written is None:
            return None
        text += source.text[end : span.start] + written
        end = span.end
    return Edit(Span(source, spans[0].start, end), text)


def _other_quotes(span: Span) -> Diagnostic:
    quoted = _OTHER_QUOTES.match(span.source.text, span.start)
    whole = Span(span.source, *quoted.span()) if quoted else span
    return Diagnostic(
        "quotes-other",
        "a text stands in double quotes",
        whole,
        help=f'write "{quoted[2]}"' if quoted else 'write "…"',
        fix=Edit(whole, f'"{quoted[2]}"') if quoted else None,
    )


def _continuation(span: Span) -> Diagnostic:
    line_end = _LINE_END.match(span.source.text, span.end)
    return Diagnostic(
        "character-unknown",
        "a line does not go on after a backslash",
        span,
        help="a long statement goes on between { and }",
        fix=Edit(Span(span.source, span.start, line_end.end()), "") if line_end else None,
    )


def _other_blank(span: Span) -> Diagnostic:
    written = "\n" if span.text == "\r" else " "
    return Diagnostic(
        "character-unknown",
        f"{describe(span.text)} is not part of the language",
        span,
        help="a line ends with a line feed, or a carriage return and a line feed"
        if written == "\n"
        else "write a space",
        fix=Edit(span, written),
    )


def _parted_percent(span: Span) -> Diagnostic:
    joined = span.text[:-1].rstrip(" \t") + "%"
    return Diagnostic(
        "percent-space",
        "`%` stands apart from its number",
        span,
        help=f"write {joined}",
        fix=Edit(span, joined),
    )


def _other_comparison(span: Span, before: Token | None) -> Diagnostic:
    sign = _COMPARISONS[span.text]
    if span.text == ">" and before and before.kind == "MINUS" and before.end == span.start:
        arrow = before.span(span.source).to(span)
        return Diagnostic(
            "character-unknown",
            "`->` is not part of the language",
            arrow,
            help="write .. between the ends of a range: 6/12..12/12",
            fix=Edit(arrow, ".."),
        )
    if before and before.kind in ("EQUAL", "COMPARE") and before.end == span.start:  # "=<", "=>"
        span = before.span(span.source).to(span)
    elif span.text == "!":
        span = Span(span.source, span.start, span.end + span.source.text.startswith("=", span.end))
    return Diagnostic(
        "comparison-unknown",
        f"`{span.text}` is not a comparison",
        span,
        help=f"write {sign}; the comparisons are <=, >= and ==",
        fix=Edit(span, sign),
    )


def _quoted(text: str) -> str:
    return f"`{text}`" if text.isprintable() and text.strip() else describe(text[0])
