"""Syntax trees for tests: drawn ones, covering every node, and comparison of trees without their spans."""

from dataclasses import fields, is_dataclass
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st

from raptr_dsl.diagnostics import Diagnostic, Diagnostics
from raptr_dsl.render import render_text
from raptr_dsl.source import Source, Span
from raptr_dsl.syntax import ast, parse

NOWHERE = Span(Source("", ""), 0, 0)
KEYWORDS = (
    *("doc", "use", "param", "let", "model", "steps", "tokens", "seed", "allow", "keep", "default"),
    *("stage", "ramp", "repeat", "run", "require", "as", "in"),
)


def read(text: str) -> tuple[ast.File, list[Diagnostic]]:
    """The tree of a text and what is wrong with it."""
    diagnostics = Diagnostics()
    file = parse(Source("test.raptr", text), diagnostics)
    return file, diagnostics.sorted()


def bare(node: Any) -> Any:
    """A tree as nested tuples without spans, so that == compares what was meant."""
    if isinstance(node, tuple):
        return tuple(map(bare, node))
    if is_dataclass(node):
        kept = (field.name for field in fields(node) if field.name not in ("span", "keyword"))
        return type(node).__name__, *(bare(getattr(node, name)) for name in kept)
    return node


# --- values -----------------------------------------------------------------------------------------------

words = st.one_of(st.sampled_from(KEYWORDS), st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,7}", fullmatch=True))
names = words.map(lambda text: ast.Name(NOWHERE, text))
counts = st.one_of(
    st.integers(0, 10**6),
    st.builds(lambda digits, zeros: digits * 10**zeros, st.integers(1, 999), st.integers(0, 60)),
    st.integers(2**250, 2**256 - 1),
).map(lambda value: ast.Number(NOWHERE, Fraction(value), True))
shares = st.builds(
    lambda digits, places: ast.Number(NOWHERE, Fraction(digits, 10**places), False),
    st.integers(0, 10**9),
    st.integers(0, 40),
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
strings = texts.map(lambda text: ast.String(NOWHERE, text))


def calls(arguments: st.SearchStrategy[ast.Value]) -> st.SearchStrategy[ast.Call]:
    named = st.builds(ast.Argument, st.just(NOWHERE), st.none() | names, arguments)
    return st.builds(ast.Call, st.just(NOWHERE), names, st.lists(named, max_size=3).map(tuple))


def _larger(smaller: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    operators = st.sampled_from("+-*/")
    return st.one_of(
        st.builds(ast.Unary, st.just(NOWHERE), smaller),
        st.builds(ast.Binary, st.just(NOWHERE), operators, smaller, smaller),
        calls(smaller | _whole(smaller)),
    )


def _whole(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """What may be a value but not an operand."""
    return st.one_of(
        st.builds(ast.Range, st.just(NOWHERE), inner, inner),
        st.builds(ast.List, st.just(NOWHERE), st.lists(inner, max_size=3).map(tuple)),
        st.just(ast.Hole(NOWHERE)),
    )


expressions: st.SearchStrategy[Any] = st.recursive(st.one_of(counts, shares, strings, names), _larger, max_leaves=8)
ranges = st.builds(ast.Range, st.just(NOWHERE), expressions, expressions)
values: st.SearchStrategy[Any] = expressions | _whole(expressions)

# --- statements -------------------------------------------------------------------------------------------

attributes = st.lists(st.builds(ast.Attribute, st.just(NOWHERE), st.none() | names, names, values), max_size=4).map(
    tuple
)
dashed = st.from_regex(r"[a-z][a-z0-9]{0,4}([-.][a-z0-9]{1,4}){1,2}", fullmatch=True)
paths = st.from_regex(r"[a-z][a-z0-9]{0,4}([-./][a-z0-9]{1,4}){0,3}", fullmatch=True)
arguments = st.lists(st.builds(ast.Argument, st.just(NOWHERE), st.none() | names, values), max_size=3).map(tuple)
kinds = names | calls(values)
optional = st.none() | names

plain_statements: st.SearchStrategy[Any] = st.one_of(
    st.builds(ast.Doc, st.just(NOWHERE), strings),
    st.builds(ast.Use, st.just(NOWHERE), strings | paths.map(lambda text: ast.Name(NOWHERE, text)), optional),
    st.builds(ast.Param, st.just(NOWHERE), names, kinds, st.none() | ranges, st.none() | values),
    st.builds(ast.Let, st.just(NOWHERE), names, values),
    st.builds(ast.Model, st.just(NOWHERE), optional | dashed.map(lambda text: ast.Name(NOWHERE, text)), attributes),
    st.builds(ast.Horizon, st.just(NOWHERE), st.sampled_from(["steps", "tokens"]), expressions),
    st.builds(ast.Seed, st.just(NOWHERE), expressions),
    st.builds(ast.Allow, st.just(NOWHERE), st.lists(names, min_size=1, max_size=3).map(tuple)),
    st.builds(ast.Keep, st.just(NOWHERE), attributes),
    st.builds(ast.Default, st.just(NOWHERE), attributes),
    st.builds(ast.Stage, st.just(NOWHERE), optional, attributes),
    st.builds(ast.Ramp, st.just(NOWHERE), optional, attributes),
    st.builds(ast.Run, st.just(NOWHERE), names, arguments, attributes),
    st.builds(ast.Require, st.just(NOWHERE), kinds, st.sampled_from(["<=", ">=", "=="]), values),
)
statements: st.SearchStrategy[Any] = st.recursive(
    plain_statements,
    lambda inner: st.builds(
        ast.Repeat, st.just(NOWHERE), st.just(NOWHERE), expressions, attributes, st.lists(inner, max_size=3).map(tuple)
    ),
    max_leaves=4,
)
files = st.lists(statements, max_size=4).map(lambda items: ast.File(NOWHERE, tuple(items)))


def only(text: str) -> Any:
    """The one statement of a text without mistakes."""
    file, problems = read(text)
    assert not problems, render_text(problems)
    (statement,) = file.statements
    return statement


def value_of(text: str) -> Any:
    return only(f"let x = {text}").value
