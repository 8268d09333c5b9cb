"""`parse` and `format_file` are inverse to each other, up to spans and layout."""

from fractions import Fraction

import pytest
from hypothesis import given

from raptr_dsl.syntax import ast
from raptr_dsl.syntax.format import format_file, format_value
from tests.syntax.trees import NOWHERE, bare, files, read, values


@given(files)
def test_parsing_what_was_formatted_gives_the_tree_back(file: ast.File) -> None:
    read_back, problems = read(format_file(file))
    assert not problems
    assert bare(read_back) == bare(file)


@given(files)
def test_formatting_what_is_formatted_changes_nothing(file: ast.File) -> None:
    text = format_file(file)
    assert format_file(read(text)[0]) == text


@given(values)
def test_a_value_alone_comes_back(value: ast.Value) -> None:
    file, problems = read(f"let x = {format_value(value)}")
    assert not problems
    assert bare(file.statements[0].value) == bare(value)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("675000", "675k"),
        ("675k", "675k"),
        ("1_000_000", "1M"),
        ("1.5k", "1500"),
        ("1.2e21", "1.2e21"),
        ("2000000000000000000000", "2e21"),
        ("0", "0"),
        ("50%", "50%"),
        ("0.5", "50%"),
        ("12.5%", "12.5%"),
        ("2.50", "2.5"),
        ("1.0", "100%"),
        ("2.0", "2.0"),
        ("1e-3", "0.1%"),
        ("6 / 12", "6/12"),
        ("(1 + 2) * 3", "(1+2)*3"),
        ("1 + (2 * 3)", "1+2*3"),
        ("1 - (2 - 3)", "1-(2-3)"),
        ("(1 - 2) - 3", "1-2-3"),
        ("-(a + b)", "-(a+b)"),
        ("- - a", "--a"),
        ("6/12 .. all", "6/12..all"),
        ("[ first,last , ]", "[first, last]"),
        ("draw( 1/8,\n 1/4 )", "draw(1/8, 1/4)"),
        ("exp(1, 2, rate = 3)", "exp(1, 2, rate=3)"),
        ('"a\tb"', r'"a\tb"'),
        (r'"a \"b\" \\ \n"', r'"a \"b\" \\ \n"'),
    ],
)
def test_canonical_spelling(written: str, canonical: str) -> None:
    file, problems = read(f"let x = {written}")
    assert not problems
    assert format_file(file) == f"let x = {canonical}\n"


def test_a_value_that_no_literal_has_is_a_fraction() -> None:
    assert format_value(ast.Number(NOWHERE, Fraction(5, 12), False)) == "(5/12)"


def test_a_long_statement_gets_a_line_for_each_attribute() -> None:
    attributes = " ".join(f"attribute_{number}=value_{number}" for number in range(6))
    file, _ = read(f"stage long {attributes}")
    text = format_file(file)
    assert text.splitlines()[:2] == ["stage long {", "  attribute_0=value_0"]
    assert bare(read(text)[0]) == bare(file)
