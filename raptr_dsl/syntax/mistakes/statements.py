"""Mistakes of whole statements: their first word, their ends, and what no other function knows."""

import re

from raptr_dsl.diagnostics import Diagnostic, Edit, Label, did_you_mean
from raptr_dsl.source import Span
from raptr_dsl.syntax.mistakes.place import NAME, Place, listed, shown
from raptr_dsl.syntax.tables import END

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
_ENDS = ("end", "done", "endrepeat", "endfor", "begin")
_OPEN_LINE = re.compile(
    r"(?P<outer>[ \t]*)(?:stage|ramp|run|model|keep|default)\b[^\n#{};]*?(?P<end>[ \t]*\r?\n(?P<inner>[ \t]*))\Z"
)
_COMMENTS = {("SLASH", "SLASH"), ("SLASH", "STAR"), ("MINUS", "MINUS")}


def adrift(place: Place) -> Diagnostic | None:
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


def unknown_statement(place: Place) -> Diagnostic | None:
    span = place.span()
    if place.kind() != "NAME":
        return Diagnostic(
            "statement-unknown",
            f"no statement begins with `{shown(span)}`",
            span,
            help=f"a statement begins with one of {', '.join(FORMS)}",
        )
    if place.word.lower() in _ENDS:
        help = "a block stands between { and }: repeat 3 { … }"
        return Diagnostic("statement-unknown", f"there is no statement `{shown(span)}`", span, help=help)
    meant = _OTHER_WORDS.get(place.word.lower()) or did_you_mean(place.word.lower(), FORMS)
    return Diagnostic(
        "statement-unknown",
        f"there is no statement `{shown(span)}`",
        span,
        help=f"did you mean {meant}?" if meant else f"the statements are {', '.join(FORMS)}",
        fix=Edit(span, meant) if meant else None,
    )


def comment(place: Place) -> Diagnostic | None:
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


def keyword_equals(place: Place) -> Diagnostic | None:
    if place.index != 1 or place.kind() != "EQUAL":
        return None
    next_one = place.span(1)
    meant = next_one.to(place.tokens[-1].span(place.source))
    is_short = place.kind(1) != END and not re.search(r"\s", meant.text)
    return Diagnostic(
        "equals-extra",
        f"the statement `{place.word}` takes no `=`",
        place.span(),
        help=f"write {place.word} {shown(meant)}" if is_short else f"write {FORMS[place.word]}",
        fix=Edit(Span(place.source, place.span(-1).end, next_one.start), " ") if place.kind(1) != END else None,
    )


def imported_by_run(place: Place) -> Diagnostic | None:
    """`run acme/bert`, `run "./warm.raptr"`: a run names what a `use` brings into the file."""
    if place.word != "run" or place.index not in (1, 2):
        return None
    if place.kind() == "SLASH" and place.kind(-1) == "NAME" and place.kind(1) == "NAME":
        last = 1
        while place.touches(last) and place.kind(last + 1) in ("SLASH", "NAME", "MINUS"):
            last += 1
        span = place.span(-1).to(place.span(last))
        stem = span.text.rpartition("/")[2]
    elif place.kind() == "STRING":
        span = place.span()
        stem = span.text.strip('"').rpartition("/")[2].removesuffix(".raptr")
    else:
        return None
    named = span.text if NAME.fullmatch(stem) else f"{span.text} as name"
    alias = stem if NAME.fullmatch(stem) else "name"
    return Diagnostic(
        "run-of-path",
        f"`run` takes the name of an imported schedule, and {shown(span)} is a path",
        span,
        help=f"import it first: use {named}; then: run {alias}",
        fix=Edit(span, alias) if f"use {named}" in place.source.text else None,
    )


def param_type_missing(place: Place) -> Diagnostic | None:
    """`param start = 6/12`: what `--param` may set has a type."""
    if place.word != "param" or place.index != 2 or place.kind() != "EQUAL" or place.kind(1) == END:
        return None
    name, value = place.span(-1).text, place.run(1)
    written = shown(value)
    kind = f"choice({written})" if place.kind(1) == "NAME" else "int" if value.text.isdecimal() else "fraction"
    return Diagnostic(
        "syntax-unexpected",
        f"the parameter `{name}` has no type",
        place.span(),
        label="expected `:`",
        help=f"write param {name}: {kind} = {written}; or let {name} = {written}, which nobody sets from outside",
        fix=Edit(Span(place.source, place.span(-1).end, place.span().start), f": {kind} "),
    )


def joined(place: Place) -> Diagnostic | None:
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
        f"`{shown(span)}` stands on the line of another statement",
        span,
        related=(Label(place.tokens[0].span(place.source), "which began here"),),
        help="begin a new line, or write ; between them",
        fix=Edit(Span(place.source, place.tokens[second - 1].end, span.start), "\n"),
    )


def after_block(place: Place) -> Diagnostic | None:
    if place.kind(-1) != "RBRACE" or place.kind() != "NAME":
        return None
    return Diagnostic(
        "syntax-unexpected",
        f"`{place.span().text}` stands after the block of its statement",
        place.span(),
        help="write it before the { or inside",
    )


def incomplete(place: Place) -> Diagnostic | None:
    if not place.at_end:
        return None
    return Diagnostic(
        "statement-incomplete",
        f"the statement `{place.word}` is not complete",
        place.span(),
        label=f"expected {listed(place.expected)}",
        help=f"its form is: {FORMS[place.word]}",
    )


def anything(place: Place) -> Diagnostic:
    return Diagnostic(
        "syntax-unexpected",
        f"`{shown(place.span())}` does not fit here" if place.kind() != "_NL" else "the line ends too early",
        place.span(),
        label=f"expected {listed(place.expected)}",
        help=f"the form is: {FORMS[place.word]}" if place.word in FORMS else "",
    )
