"""Text → tree: every statement, spans, numbers, limits, and recovery after mistakes."""

import gc
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raptr_dsl.codes import catalogue
from raptr_dsl.render import render_github, render_json, render_text
from raptr_dsl.source import Span
from raptr_dsl.syntax import ast
from raptr_dsl.syntax.format import format_file, format_value
from raptr_dsl.syntax.outline import NESTING, STATEMENTS
from tests.syntax.trees import KEYWORDS, bare, plain_statements, read, statements


def only(text: str) -> Any:
    """The one statement of a text without mistakes."""
    file, problems = read(text)
    assert not problems, render_text(problems)
    (statement,) = file.statements
    return statement


def value_of(text: str) -> Any:
    return only(f"let x = {text}").value


# --- what there is ----------------------------------------------------------------------------------------


def test_every_statement_has_its_node() -> None:
    text = """\
doc "one of each"
use std/raptr
param start: fraction in 1/12..1 = 6/12
let half = 1/2
model bert-base
steps 675k
tokens 2B
seed 17
allow partial
keep depth=[first, last]
default scale=sqrt
stage a depth=6/12 steps=rest
ramp stages=4 depth=6/12..12/12 steps=80%
repeat 3 { stage b steps=1k }
run warmup(start=6/12) steps=80%
require flops(blocks) <= 75%
"""
    file, problems = read(text)
    assert not problems
    found = {type(statement) for statement in file.statements}
    assert found == set(ast.Statement.__args__)
    assert [s.unit for s in file.statements if isinstance(s, ast.Horizon)] == ["steps", "tokens"]


@pytest.mark.parametrize("word", KEYWORDS)
def test_a_keyword_is_an_ordinary_name_elsewhere(word: str) -> None:
    stage = only(f"stage {word} {word}=1 {word}.{word}={word}({word}={word})")
    assert stage.name.text == word
    assert [attribute.name.text for attribute in stage.attributes] == [word, word]
    assert only(f"param {word}: {word} in 1..2").name.text == word
    assert only(f"use x as {word}").alias.text == word


def test_a_keyword_needs_its_end() -> None:
    assert read("seed17")[1] and read("stageful steps=rest")[1]


@pytest.mark.parametrize(
    "text",
    ["", "\n", "\r\n\r\n", ";;", "# nothing", "   \t ", "# a\n;\n# b"],
    ids=["", "n", "rn", "semi", "#", "blank", "#;#"],
)
def test_a_text_without_statements_is_an_empty_file(text: str) -> None:
    file, problems = read(text)
    assert file.statements == () and not problems
    assert (file.span.start, file.span.end) == (0, len(text))


@pytest.mark.parametrize("end", ["\n", "\r\n", ";", " ;\t", "  # comment\n", "\n\n\n", "\r\n# x\r\n"])
def test_statements_end_at_lines_and_semicolons(end: str) -> None:
    file, problems = read(f"seed 1{end}stage a steps=1{end}")
    assert not problems
    assert [type(statement) for statement in file.statements] == [ast.Seed, ast.Stage]


def test_lines_are_free_within_brackets() -> None:
    text = (
        "stage a {\r\n\tdepth=draw(1/8,\r\n\r\n  # comment\n 1/4\n)\n\n; sample=ranked(order=[\n1,\n2,\n]) steps=rest }"
    )
    assert len(only(text).attributes) == 3
    assert bare(value_of("(1 +\n2)\n")) == bare(value_of("1+2"))


@pytest.mark.parametrize("text", ["model ul2-1.6b layers=3", "model bert-base { layers=3 }", "model x.y-2 layers=3"])
def test_model_names_have_hyphens_and_points(text: str) -> None:
    assert only(text).name.text == text.split()[1]
    assert len(only(text).attributes) == 1


def test_paths_of_libraries_and_files() -> None:
    library = only("use acme/bert-base/v1.2 as bert").path
    assert isinstance(library, ast.Name) and library.text == library.span.text == "acme/bert-base/v1.2"
    assert only('use "./warm up.raptr" as warm').path.value == "./warm up.raptr"


# --- values -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "value", "is_count"),
    [
        ("6", 6, True),
        ("675k", 675_000, True),
        ("1_000", 1000, True),
        ("2B", 2 * 10**9, True),
        ("1.5k", 1500, True),
        ("1.2e21", 12 * 10**20, True),
        ("1e3", 1000, True),
        ("3T", 3 * 10**12, True),
        ("20%", Fraction(1, 5), False),
        ("0.5", Fraction(1, 2), False),
        ("6.0", 6, False),
        ("100%", 1, False),
        ("110%", Fraction(11, 10), False),
        ("12.5%", Fraction(1, 8), False),
        ("1e-3", Fraction(1, 1000), False),
        ("0.1", Fraction(1, 10), False),
        ("00012", 12, True),
        (str(2**256 - 1), 2**256 - 1, True),
    ],
)
def test_rule_1_whole_literals_are_counts_others_shares(written: str, value: Fraction, is_count: bool) -> None:
    number = value_of(written)
    assert (number.value, number.is_count) == (value, is_count)


@pytest.mark.parametrize(
    "written", ["1e400", "1e-400", "1e99999999999", "9" * 5000, "0." + "0" * 5000 + "1", str(2**256), "1e78", "0e9999"]
)
def test_limit_numbers_have_256_bits(written: str) -> None:
    file, (problem,) = read(f"seed 1; let x = {written}; seed 2")
    assert problem.code == "limit-number"
    assert problem.span is not None and problem.span.text == written
    assert len(file.statements) == 2


def test_operators_bind_as_in_arithmetic() -> None:
    assert bare(value_of("1+2*3-4")) == bare(value_of("(1+(2*3))-4"))
    assert bare(value_of("8/4/2")) == bare(value_of("(8/4)/2"))
    assert bare(value_of("-a*b")) == bare(value_of("(-a)*b"))
    assert bare(value_of("8/4/2")) != bare(value_of("8/(4/2)"))


# --- spans ------------------------------------------------------------------------------------------------


def _nodes(node: Any) -> list[ast.Node]:
    if isinstance(node, tuple):
        return [inner for item in node for inner in _nodes(item)]
    if not isinstance(node, ast.Node):
        return []
    return [node, *(inner for name in node.__slots__ for inner in _nodes(getattr(node, name)))]


@given(st.lists(statements, max_size=4))
def test_the_span_of_a_value_holds_that_value(drawn: list[Any]) -> None:
    file, _ = read(format_file(ast.File(Span(only("seed 1").span.source, 0, 0), tuple(drawn))))
    for node in _nodes(file.statements):
        if isinstance(node, ast.Name):
            assert node.span.text == node.text
        elif isinstance(node, ast.Value):
            assert bare(value_of(node.span.text)) == bare(node)
        elif isinstance(node, ast.Statement) and not isinstance(node, ast.Repeat):
            assert bare(only(node.span.text)) == bare(node)


def test_spans_take_in_what_was_written() -> None:
    stage = only("  stage a depth.sample=balanced depth=(6 + 0)/12 {\n steps = rest\n}  # end\n")
    assert stage.span.text.startswith("stage a") and stage.span.text.endswith("}")
    assert [attribute.span.text for attribute in stage.attributes] == [
        "depth.sample=balanced",
        "depth=(6 + 0)/12",
        "steps = rest",
    ]
    assert stage.attributes[1].value.left.span.text == "(6 + 0)"
    repeat = only("repeat 3 steps=60% { stage a steps=1 } # end")
    assert repeat.span.text == "repeat 3 steps=60% { stage a steps=1 }"
    assert repeat.keyword.text == "repeat"
    assert repeat.body[0].span.text == "stage a steps=1"


# --- recovery ---------------------------------------------------------------------------------------------

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


# --- any input at all -------------------------------------------------------------------------------------

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


# --- limits -----------------------------------------------------------------------------------------------


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
