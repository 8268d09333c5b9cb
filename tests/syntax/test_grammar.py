"""The grammar file: free of conflicts, and the language that is really parsed."""

import re
from functools import cache

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from lark import Lark, UnexpectedInput
from lark.exceptions import GrammarError, LexError

from raptr_dsl.resources import grammar_file
from raptr_dsl.syntax import ast
from raptr_dsl.syntax.format import format_file
from raptr_dsl.syntax.tables import load_tables, make_tables
from raptr_dsl.syntax.tokens import Scanner
from tests.syntax.trees import files, read

GRAMMAR = grammar_file().read_text("utf-8")


class Joined:
    """What the grammar says of line breaks: inside ( ) and [ ] they are no tokens."""

    always_accept = ("_NL",)

    def process(self, stream):
        depth = 0
        for token in stream:
            if not (depth and token.type == "_NL"):
                yield token
            depth += {"LPAR": 1, "LSQB": 1, "RPAR": -1, "RSQB": -1}.get(token.type, 0)


@cache
def reference() -> Lark:
    """Lark's own parser of whole files."""
    return Lark(GRAMMAR, parser="lalr", postlex=Joined())


def is_accepted(text: str) -> bool:
    # An attribute called `in` after a call: Lark's lexer sees the keyword, for its states are merged. Nobody has one.
    assume(not re.search(r"\)\s*in\b", text))
    try:
        reference().parse(text)
    except UnexpectedInput:
        return False
    return True


def parses(text: str) -> bool:
    """Whether a text has no mistake of grammar. Numbers too large, for one, are a matter of what is built of it."""
    beyond = {"limit-number", "number-not-whole", "string-escape"}
    return all(problem.code in beyond for problem in read(text)[1])


def test_the_grammar_is_strictly_lalr_and_no_two_words_collide() -> None:
    Lark(GRAMMAR, parser="lalr", strict=True)


@pytest.mark.parametrize(
    ("rule", "worse"),
    [("?value: expr |", "?value: expr | expr expr |"), (r"_BLANK:  /[ \t]+/", r"_BLANK:  /[ \t#]+/")],
    ids=["conflict", "collision"],
)
def test_strictness_notices(rule: str, worse: str) -> None:
    assert rule in GRAMMAR
    with pytest.raises((GrammarError, LexError)):
        Lark(GRAMMAR.replace(rule, worse), parser="lalr", strict=True)


def test_no_rule_is_empty() -> None:
    assert all(rule.size > 0 for rule in make_tables(GRAMMAR).rules), "the automaton takes parts from the end of a list"


@settings(max_examples=25)
@given(files)
def test_lark_accepts_whole_files_that_are_parsed_by_statements(file: ast.File) -> None:
    assert is_accepted(format_file(file))


WORDS = (
    *("stage", "repeat", "run", "let", "param", "keep", "model", "use", "require", "allow", "steps", "doc"),
    *("a", "depth", "in", "as", "6", "20%", '"t"', "std/raptr", "bert-base", "draw", "first", "?", "..", "."),
    *("=", "=", "=", ":", ",", "(", ")", "[", "]", "{", "}", "+", "-", "/", "<=", "==", "\n", "\n", ";"),
)


@given(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join))
def test_a_heap_of_words_is_refused_where_lark_refuses_it(text: str) -> None:
    assert parses(text) == is_accepted(text)


@settings(max_examples=25)
@given(files, st.data())
def test_a_damaged_file_is_refused_where_lark_refuses_it(file: ast.File, data: st.DataObject) -> None:
    text = format_file(file)
    tokens = list(Scanner(load_tables()).scan(text))
    if not tokens:
        return
    token = data.draw(st.sampled_from(tokens))
    damaged = text[: token.start] + data.draw(st.sampled_from(["", *WORDS])) + text[token.end :]
    assert parses(damaged) == is_accepted(damaged)
