"""A mistake spares its neighbours, and no text at all breaks the parser."""

import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raptr_dsl.codes import catalogue
from raptr_dsl.render import render_github, render_json, render_text
from raptr_dsl.source import Span
from raptr_dsl.syntax import ast
from raptr_dsl.syntax.format import format_file, format_value
from raptr_dsl.syntax.outline import NESTING, STATEMENTS
from tests.syntax.trees import bare, only, plain_statements, read, value_of

BROKEN = [
    "stge a steps=1",
    "stage a depth= steps=1",
    "stage a depth 6/12",
    "stage a depth=draw(1/2, 3/4 steps=1",
    "stage a depth=[1, (2] steps=1",
    "stage a depth=[1, 2) steps=1",
    "stage a steps=1)",
    'doc "never closed',
    'doc "closed on\nanother line"',
    "stage a st\u00e9ps=1",
    "stage\u00a0a\u00a0steps=1",
    "stage a steps=20 %",
    "stage a steps=1kk",
    "stage a steps=1e999",
    "let",
    "param a",
    "repeat 3 steps=60%",
    "stage a\n  depth=6/12\n  steps=1\n  scale=sqrt",
    "stage a steps=1 \\\n  depth=6/12",
    "require flops < 3",
    "stage a steps=(1",
    "}",
    "stage a {\n steps=1\n depth: 6/12\n}",
    "stage a\n{ steps=1 }",
]


@given(
    st.lists(plain_statements, min_size=1, max_size=3), st.sampled_from(BROKEN), st.lists(plain_statements, max_size=3)
)
def test_one_mistake_is_one_diagnostic_and_spares_its_neighbours(before: list, broken: str, after: list) -> None:
    source = only("seed 1").span.source
    good = [format_file(ast.File(Span(source, 0, 0), tuple(part))) for part in (before, after)]
    # A line of attributes, or a brace, may belong to a statement before it; this one ends that.
    file, problems = read(f"{good[0]}seed 1\n{broken}\nseed 2\n{good[1]}")
    assert len(problems) == 1, render_text(problems)
    kept = bare(file.statements)
    assert kept[: len(before)] == bare(tuple(before))
    assert kept[len(kept) - len(after) :] == bare(tuple(after))


@pytest.mark.parametrize("broken", BROKEN)
def test_a_mistake_in_a_repeat_spares_what_is_around_it(broken: str) -> None:
    file, problems = read(f"seed 1\nrepeat 2 {{\nstage x steps=1\n{broken}\nstage y steps=2\n}}\nseed 2\n")
    if broken == "}":
        return
    assert len(problems) == 1, render_text(problems)
    assert isinstance(file.statements[-1], ast.Seed)
    repeat = next(statement for statement in file.statements if isinstance(statement, ast.Repeat))
    assert [s.name.text for s in repeat.body if isinstance(s, ast.Stage) and s.name][:: len(repeat.body) - 1] == [
        "x",
        "y",
    ]


def test_every_bad_statement_is_reported_once_in_order() -> None:
    text = "stge a\nseed 1\nstage depth 3\n\nstage b steps=1kk; let y\n"
    file, problems = read(text)
    assert [problem.code for problem in problems] == [
        "statement-unknown",
        "equals-missing",
        "number-malformed",
        "value-missing",
    ]
    assert len(file.statements) == 1


def test_a_repeat_that_is_never_closed_is_one_mistake() -> None:
    file, (problem,) = read("repeat 3 {\n repeat 2 {\n stage a steps=1\n")
    assert problem.code == "bracket-unclosed"
    assert problem.span is not None and problem.span.start == 21
    assert [label.span.start for label in problem.related] == [9]
    assert isinstance(file.statements[0], ast.Repeat)


@pytest.mark.parametrize("text", ['repeat 3 { doc "abc }', 'stage a { depth="abc }\nseed 1'])
def test_an_unclosed_text_that_swallows_a_bracket_is_one_mistake(text: str) -> None:
    (problem,) = read(text)[1]
    assert problem.code == "string-unclosed"


SOUP = st.lists(
    st.one_of(
        st.text(max_size=3),
        st.sampled_from(
            ["stage ", "repeat 3 ", "depth", "=", "{", "}", "(", ")", "[", "]", '"', "\n", "6/12", "#", "\\", ";"]
        ),
    ),
    max_size=30,
).map("".join)


@given(SOUP)
def test_any_text_gets_a_tree_and_sound_diagnostics(text: str) -> None:
    file, problems = read(text)
    for problem in problems:
        assert problem.code in catalogue()
        assert problem.span is not None
        for span in (
            problem.span,
            *(label.span for label in problem.related),
            *([problem.fix.span] if problem.fix else []),
        ):
            assert 0 <= span.start <= span.end <= len(text)
        told = f"{problem.message}{problem.label}{problem.help}"
        assert not any(word in told and word not in text for word in ("LBRACE", "_NL", "$END"))
    format_file(file)
    render_text(problems), render_json(problems), render_github(problems)


def test_the_collector_is_left_as_it_was() -> None:
    read("stge")
    assert gc.isenabled()
    gc.disable()
    try:
        read("seed 1")
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_limit_of_statements() -> None:
    assert len(read("seed 1\n" * STATEMENTS)[0].statements) == STATEMENTS
    file, (problem,) = read("seed 1\n" * (STATEMENTS + 1))
    assert problem.code == "limit-statements" and file.statements == ()


def test_limit_counts_statements_within_repeats() -> None:
    (problem,) = read("repeat 2 {\n" + "seed 1\n" * STATEMENTS + "}")[1]
    assert problem.code == "limit-statements"


BOMBS = {
    "(": "let x = " + "(" * 100_000,
    "()": "let x = " + "(" * 100_000 + "1" + ")" * 100_000,
    "[": "let x = " + "[" * 100_000,
    "{": "{" * 100_000,
    "repeat": "repeat 2 {" * 100_000,
    "-": "let x = " + "-" * 100_000 + "1",
    "+": "let x = 1" + "+1" * 100_000,
    "/": "let x = 1" + "/1" * 100_000,
    "f(": "let x = " + "f(" * 100_000,
    "slow growth": "let x = " + "(" * 30 + "1" + "+1)" * 30 + "+1" * 30,
}


@pytest.mark.timeout(10)
@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS)
def test_limit_of_nesting(text: str) -> None:
    (problem,) = read(text)[1]
    assert problem.code == "limit-nesting"


def test_limit_of_nesting_allows_what_is_below_it() -> None:
    depth = NESTING - 1
    for text in ("(" * depth + "1" + ")" * depth, "1" + "+1" * depth, "-" * depth + "1"):
        assert format_value(value_of(text))
    wide = "[" + "1+1, " * 1000 + "f(1+1), 1+1]"
    assert len(value_of(wide).items) == 1002


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("text", "code"),
    [("," * 2**21, "limit-words"), ("\u00a0" * 2**21, "limit-words"), ("#" * (2**22 + 1), "file-too-large")],
    ids=["commas", "no-break spaces", "too large"],
)
def test_limit_of_size(text: str, code: str) -> None:
    file, (problem,) = read(text)
    assert problem.code == code and file.statements == ()


@pytest.mark.timeout(20)
@pytest.mark.parametrize("filler", ["\n", ";", " ", "#", "1", "1_", "a", "é", "\\", "x\n "], ids=repr)
def test_large_texts_of_one_thing_are_read_in_linear_time(filler: str) -> None:
    read('doc "' + filler * (2**20 // len(filler)))
