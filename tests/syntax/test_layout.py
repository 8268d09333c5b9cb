"""The formatter of source text: the tree stays, comments stay, and a second time nothing changes."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raptr_dsl.diagnostics import Diagnostics
from raptr_dsl.resources import schedule_directory
from raptr_dsl.source import Source
from raptr_dsl.syntax import ast
from raptr_dsl.syntax.format import format_file
from raptr_dsl.syntax.layout import format_text
from tests.syntax.trees import bare, files, read

COMMENT = re.compile(r'"[^"\\\n]*(?:\\.[^"\\\n]*)*"|(#[^\n]*)')


def formatted(text: str) -> str:
    diagnostics = Diagnostics()
    result = format_text(Source("test.raptr", text), diagnostics)
    assert result is not None, [problem.message for problem in diagnostics]
    return result


def comments(text: str) -> list[str]:
    return [match[1].rstrip() for match in COMMENT.finditer(text) if match[1]]


@st.composite
def scrawled(draw: st.DrawFn) -> str:
    """The text of a drawn tree with line ends, blanks and comments wherever the language allows them."""
    text = format_file(draw(files))
    written, depth, braces = [], 0, 0
    pieces = re.findall(r'"[^"\\\n]*(?:\\.[^"\\\n]*)*"|\n|[()\[\]{},;]| |[^\s()\[\]{},;"]+', text)
    for number, piece in enumerate(pieces):
        written.append(piece)
        depth += (piece in "([") - (piece in ")]") if piece in "()[]" else 0
        braces += (piece == "{") - (piece == "}")
        free = piece == "\n" or (depth and piece in "([,")
        if free and draw(st.booleans()):
            comment = f"# {draw(st.sampled_from(['why', 'x = 1; {', 'ends in blanks  ', '']))}{number}"
            written.append(draw(st.sampled_from(["\n", "\n\n\n", "  ", f" {comment}\n", f"\n  {comment}\n\n"])))
    return "".join(written)


@settings(max_examples=25)
@given(files)
def test_what_the_tree_says_is_formatted_already(file: ast.File) -> None:
    text = format_file(file)
    assert formatted(text) == text


@settings(max_examples=25)
@given(scrawled())
def test_the_tree_stays(text: str) -> None:
    before, problems = read(text)
    assert not problems
    after, problems = read(formatted(text))
    assert not problems
    assert bare(after) == bare(before)


@settings(max_examples=25)
@given(scrawled())
def test_comments_stay_in_order(text: str) -> None:
    assert comments(formatted(text)) == comments(text)


@settings(max_examples=25)
@given(scrawled())
def test_formatting_twice_is_formatting_once(text: str) -> None:
    once = formatted(text)
    assert formatted(once) == once


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("stage  a   depth = 6 / 12 ;stage steps=rest # all\n", "stage a depth=6/12\nstage steps=rest  # all\n"),
        ("\n\n# about\n\n\n\nstage steps=rest\n\n", "# about\n\nstage steps=rest\n"),
        ("repeat 2{stage a steps=1;\n\n# b\n}# after", "repeat 2 {\n  stage a steps=1\n\n  # b\n}  # after\n"),
        ("param x:fraction in 1/12..1=6/12", "param x: fraction in 1/12 .. 1 = 6/12\n"),
        ("param x:in in in(1)..in( )=in(1)", "param x: in in in(1) .. in() = in(1)\n"),
        ("param x:f(in,(2)) in 1..in(1)", "param x: f(in, (2)) in 1 .. in(1)\n"),
        ("param x: choice( a ,b , )=a", "param x: choice(a, b) = a\n"),
        ("let x=- 0.50+(2*3)", "let x = -0.50+(2*3)\n"),
        ("steps 675_000", "steps 675_000\n"),
        ("seed (17)", "seed (17)\n"),
        ("require flops( blocks )<=75%", "require flops(blocks) <= 75%\n"),
        ("use std/raptr   as r", "use std/raptr as r\n"),
        ("run r( start = 6/12 ) steps=1", "run r(start=6/12) steps=1\n"),
        ("stage a {\n  depth=6/12 # half\n  steps=1\n}", "stage a {\n  depth=6/12  # half\n  steps=1\n}\n"),
        ("stage a {\n  depth=6/12\n  steps=1\n}", "stage a depth=6/12 steps=1\n"),
        ("keep { }", "keep {}\n"),
        ("let x = [1, # one\n2]", "let x = [1,  # one\n  2]\n"),
        ("let x = [\n1,\n 2,\n]", "let x = [1, 2]\n"),
        ("stage steps=1\r\n# c \r\n", "stage steps=1\n# c\n"),
        ("", ""),
    ],
)
def test_canonical_layout(written: str, canonical: str) -> None:
    assert formatted(written) == canonical


def test_a_long_list_keeps_the_lines_it_was_given() -> None:
    rows = ["  " + ", ".join(["100000"] * 10) + "," for _ in range(3)]
    text = "let x = [\n" + "\n".join(rows).removesuffix(",") + "\n]\n"
    assert formatted(text.replace("  1", "1")) == text


def test_a_text_with_mistakes_is_not_formatted() -> None:
    diagnostics = Diagnostics()
    assert format_text(Source("test.raptr", "stage depth=\n"), diagnostics) is None
    assert diagnostics.has_errors


@pytest.mark.parametrize("path", sorted(schedule_directory().glob("*.raptr")), ids=lambda path: path.name)
def test_the_schedules_of_the_library_are_formatted(path) -> None:
    assert formatted(path.read_text("utf-8")) == path.read_text("utf-8")
