"""How diagnostics look, to the character."""

import json
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raptr_dsl.diagnostics import Diagnostic, Diagnostics, Edit, Label
from raptr_dsl.render import SHOWN, as_data, render, render_github, render_json, render_text
from raptr_dsl.source import Source, Span

BERT = Source(
    "schedules/bert.raptr",
    "steps 1k\n\nseed 17\nstage warm depth=6/12 steps=60%\nstage full            steps=50%\n\n\nrequire flops <= 75%\n",
)


def span(source: Source, part: str, nth: int = 0) -> Span:
    start = -1
    for _ in range(nth + 1):
        start = source.text.index(part, start + 1)
    return Span(source, start, start + len(part))


OVERRUN = Diagnostic(
    "stages-overrun",
    "the stages add up to 110% of the run",
    span(BERT, "steps=50%"),
    "10% too much",
    (Label(span(BERT, "steps=60%"), "60% here"),),
    "write steps=40% here, or steps=rest",
    Edit(span(BERT, "steps=50%"), "steps=40%"),
)


def drawn(text: str) -> str:
    return dedent(text).strip("\n")


def test_the_ideal_diagnostic() -> None:
    assert render_text([OVERRUN]) == drawn("""
        error[stages-overrun]: the stages add up to 110% of the run
          ┌─ schedules/bert.raptr:5:23
          │
        4 │ stage warm depth=6/12 steps=60%
          │                       ─────────  60% here
        5 │ stage full            steps=50%
          │                       ^^^^^^^^^  10% too much
          │
          = help: write steps=40% here, or steps=rest
    """)


def test_lines_between_are_elided_and_notes_follow_help() -> None:
    label = Label(span(BERT, "seed 17"), "first here")
    item = Diagnostic(
        "a", "b", span(BERT, "75%"), related=[label], help="one\ntwo", notes=("three", "four"), severity="warning"
    )  # type: ignore[arg-type]
    assert render_text([item]) == drawn("""
        warning[a]: b
          ┌─ schedules/bert.raptr:8:18
          │
        3 │ seed 17
          │ ───────  first here
          ·
        8 │ require flops <= 75%
          │                  ^^^
          │
          = help: one
                  two
          = note: three
          = note: four
    """)


def test_another_file_gets_a_place_of_its_own() -> None:
    other = Source("lib.raptr", "\n" * 11 + "param start: int\n")
    item = Diagnostic("a", "b", span(BERT, "seed"), related=(Label(span(other, "start"), "declared here"),))
    assert render_text([item]) == drawn("""
        error[a]: b
           ┌─ schedules/bert.raptr:3:1
           │
         3 │ seed 17
           │ ^^^^
           │
           ┌─ lib.raptr:12:7
           │
        12 │ param start: int
           │       ─────  declared here
    """)


def test_several_marks_in_one_line() -> None:
    item = Diagnostic("a", "b", span(BERT, "60%"), "this", (Label(span(BERT, "depth"), "that"),))
    assert render_text([item]).splitlines()[3:] == [
        "4 │ stage warm depth=6/12 steps=60%",
        "  │            ─────  that",
        "  │                             ^^^  this",
    ]


def test_without_a_span_the_subject_is_named() -> None:
    item = Diagnostic("file-missing", "there is no such file", subject="brt.raptr", help="did you mean bert.raptr?")
    assert render_text([item]) == drawn("""
        error[file-missing]: there is no such file
          ┌─ brt.raptr
          │
          = help: did you mean bert.raptr?
    """)
    assert render_text([Diagnostic("a", "b")]) == "error[a]: b"
    assert render_text([Diagnostic("a", "b", help="c")]) == "error[a]: b\n  = help: c"


@pytest.mark.parametrize(
    ("text", "part", "line", "mark"),
    [
        ("\tseed\tx = 1", "x", "    seed    x = 1", "            ^"),
        ("a\t\tb", "\t\t", "a       b", " ^^^^^^^"),
        ('doc "漢字" x', "x", 'doc "漢字" x', "           ^"),
        ('doc "漢字" x', "漢字", 'doc "漢字" x', "     ^^^^"),
        ("e\u0301e\u0301 x", "x", "e\u0301e\u0301 x", "   ^"),
        ("\uff53 x", "x", "\uff53 x", "   ^"),
        ("a\u202ex\x1b[31m\u200b y", "y", "a�x�[31m� y", "          ^"),
        ("a\udcffb x", "x", "a�b x", "    ^"),
        ("a", "", "a", "^"),
        ("", "", "", "^"),
    ],
    ids=[
        "tabs",
        "tab as mark",
        "wide before",
        "wide",
        "combining",
        "full-width",
        "controls",
        "surrogate",
        "empty span",
        "empty text",
    ],
)
def test_marks_stand_below_what_they_mark(text: str, part: str, line: str, mark: str) -> None:
    shown = render_text([Diagnostic("a", "b", span(Source("f", text), part))]).splitlines()
    assert shown[3] == f"1 │ {line}".rstrip()
    assert shown[4] == f"  │ {mark}"


def test_the_end_of_a_line_can_be_marked() -> None:
    source = Source("f", "seed\r\nseed")
    for at, line in ((4, 1), (10, 2)):
        shown = render_text([Diagnostic("a", "b", Span(source, at, at))]).splitlines()
        assert shown[1] == f"  ┌─ f:{line}:5"
        assert shown[3:] == [f"{line} │ seed", "  │     ^"]


def test_a_span_of_several_lines_is_marked_to_the_end_of_its_first() -> None:
    source = Source("f", "stage a {\n  steps=1\n}\n")
    shown = render_text([Diagnostic("a", "b", Span(source, 6, 21), "here")]).splitlines()
    assert shown[3:] == ["1 │ stage a {", "  │       ^^^  here"]


@pytest.mark.parametrize("wide", ["x", "漢", "\t"])
@pytest.mark.parametrize("before", [0, 30, 1000])
@pytest.mark.parametrize("after", [0, 1000])
def test_a_long_line_is_cut_around_the_mark(wide: str, before: int, after: int) -> None:
    source = Source("f", wide * before + "MARK" + wide * after)
    line, mark = render_text([Diagnostic("a", "b", span(source, "MARK"))], width=60).splitlines()[3:]
    assert "MARK" in line
    assert sum(2 if character == "漢" else 1 for character in line) <= 60
    below = "".join("漢" if character == "漢" else character for character in line).replace("漢", "漢漢")
    assert mark == f"  │ {' ' * below[4:].index('MARK')}^^^^"
    assert ("…" in line) == (before + after > 60 or (wide != "x" and before + after > 20))


def test_other_marks_of_a_long_line_stay_in_sight() -> None:
    source = Source("f", "a" + " " * 500 + "MARK" + " " * 500 + "b")
    labels = (Label(span(source, "a"), "left"), Label(span(source, "b"), "right"))
    shown = render_text([Diagnostic("a", "b", span(source, "MARK"), related=labels)], width=60).splitlines()
    assert all(len(line) <= 60 + len("  right") for line in shown)


def test_at_most_twenty_are_shown_and_errors_before_warnings() -> None:
    source = Source("f", "x\n" * 60)
    items = [
        Diagnostic(f"w{line}", "m", Span(source, 2 * line, 2 * line + 1), severity="error" if line >= 50 else "warning")
        for line in range(60)
    ]
    shown = render_text(items).split("\n\n")
    assert len(shown) == SHOWN + 1
    assert shown[-1] == "… and 40 more"
    codes = [block.split("]")[0] for block in shown[:-1]]
    assert codes == [f"warning[w{line}" for line in range(10)] + [f"error[w{line}" for line in range(50, 60)]
    assert "more" not in render_text(items[:SHOWN])


def test_nothing_is_nothing() -> None:
    assert render_text([]) == "" == render_github([])
    assert render_json([]) == "[]"


def test_color_changes_no_character() -> None:
    import re

    plain, colored = render_text([OVERRUN]), render_text([OVERRUN], color=True)
    assert "\x1b[1;31m" in colored
    assert re.sub(r"\x1b\[[0-9;]*m", "", colored) == plain


def test_diagnostics_are_shown_file_by_file_in_order() -> None:
    first, second = Source("a", "x y"), Source("b", "x y")
    diagnostics = Diagnostics()
    for source, part, code in ((second, "y", "3"), (first, "y", "5"), (second, "x", "2"), (first, "x", "4")):
        diagnostics.add(code, "m", span(source, part))
    diagnostics.add("6", "m")
    assert [item["code"] for item in json.loads(render_json(diagnostics))] == ["2", "3", "4", "5", "6"]


# --- for programs -----------------------------------------------------------------------------------------


def test_json_holds_everything() -> None:
    assert json.loads(render_json([OVERRUN])) == [
        {
            "code": "stages-overrun",
            "severity": "error",
            "message": "the stages add up to 110% of the run",
            "path": "schedules/bert.raptr",
            "line": 5,
            "column": 23,
            "end_line": 5,
            "end_column": 32,
            "label": "10% too much",
            "related": [
                {
                    "path": "schedules/bert.raptr",
                    "line": 4,
                    "column": 23,
                    "end_line": 4,
                    "end_column": 32,
                    "text": "60% here",
                }
            ],
            "help": "write steps=40% here, or steps=rest",
            "notes": [],
            "fix": {
                "path": "schedules/bert.raptr",
                "line": 5,
                "column": 23,
                "end_line": 5,
                "end_column": 32,
                "text": "steps=40%",
            },
        }
    ]


def test_json_without_a_span_has_the_same_keys() -> None:
    data = as_data(Diagnostic("a", "b", subject="--model"))
    assert data.keys() == as_data(OVERRUN).keys()
    assert (data["path"], data["line"], data["fix"]) == ("--model", None, None)


def test_json_is_ascii_whatever_it_holds() -> None:
    assert render_json([Diagnostic("a", "漢 \udcff")]).isascii()


def test_github_annotates_the_line() -> None:
    assert render_github([OVERRUN]) == (
        "::error file=schedules/bert.raptr,line=5,col=23,endLine=5,endColumn=32,title=stages-overrun::"
        "the stages add up to 110%25 of the run%0Ahelp: write steps=40%25 here, or steps=rest"
    )


def test_github_escapes_what_would_end_a_command() -> None:
    source = Source("a,b:c%\n.raptr", "x")
    item = Diagnostic("a", "100%\r\n::error::b", Span(source, 0, 1), severity="note")
    assert render_github([item]) == (
        "::notice file=a%2Cb%3Ac%25%0A.raptr,line=1,col=1,endLine=1,endColumn=2,title=a::100%25%0D%0A::error::b"
    )


def test_github_without_a_span_names_the_subject() -> None:
    assert (
        render_github([Diagnostic("a", "b", subject="x.raptr", severity="warning")]) == "::warning title=a::x.raptr: b"
    )


@pytest.mark.parametrize(
    ("format", "function"), [("text", render_text), ("json", render_json), ("github", render_github)]
)
def test_formats_by_name(format, function) -> None:
    assert render([OVERRUN], format) == function([OVERRUN])


@given(st.text(max_size=40), st.integers(0, 40), st.integers(0, 40), st.integers(20, 60))
def test_any_text_renders_on_lines_that_fit(text: str, start: int, end: int, width: int) -> None:
    start, end = sorted((min(start, len(text)), min(end, len(text))))
    item = Diagnostic("a", "b", Span(Source("f", text), start, end))
    shown = render_text([item], width=width)
    assert shown.encode("utf-8")
    assert all(character.isprintable() or character == "\n" for character in shown)
    assert len(shown.splitlines()) == 5
    render_github([item]), render_json([item])
