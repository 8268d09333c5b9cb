"""Text → tree: every statement, spans, numbers, limits, and recovery after mistakes."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raptr_dsl.source import Span
from raptr_dsl.syntax import ast
from raptr_dsl.syntax.format import format_file
from tests.syntax.trees import KEYWORDS, bare, only, read, statements, value_of

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
