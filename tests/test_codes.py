"""The catalogue of codes: complete, without dead entries, and true to what the examples do."""

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from raptr_dsl.api import Options, check_text
from raptr_dsl.codes import catalogue
from raptr_dsl.render import render_text
from tests.syntax.trees import read

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted([*(ROOT / "raptr_dsl").rglob("*.py"), *(ROOT / "backends").rglob("*.py")])


def topic(name: str) -> set[str]:
    """The codes of one file of the catalogue."""
    return set(tomllib.loads((ROOT / "raptr_dsl" / "codes" / f"{name}.toml").read_text("utf-8")))


def with_schedule(*topics: str) -> list[str]:
    """The codes of some topics whose examples are schedules, not commands."""
    codes = set().union(*map(topic, topics))
    examples = {name: entry.bad.lstrip() for name, entry in catalogue().items() if name in codes}
    return [name for name, example in examples.items() if example and not example.startswith("raptr ")]


SYNTAX = with_schedule("syntax")
COMPILED = with_schedule("compiler", "bind", "solve")


def reported(source: str) -> Iterator[str]:
    """The codes that a module reports: literal first arguments of `x.add(code, …)`, `fail(…)`, `Diagnostic(…)`."""
    for call in ast.walk(ast.parse(source)):
        if not isinstance(call, ast.Call) or len(call.args) < 2:
            continue
        function = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        first = call.args[0]
        if function not in ("add", "fail", "Diagnostic") or not isinstance(first, ast.Constant):
            continue
        if isinstance(first.value, str) and re.fullmatch(r"[a-z0-9-]+", first.value):
            yield first.value


@cache
def strings() -> frozenset[str]:
    """Every string literal of the sources: a code may go through a function or a table before it is reported."""
    return frozenset(
        node.value
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_code_is_in_the_catalogue(path: Path) -> None:
    assert set(reported(path.read_text("utf-8"))) <= catalogue().keys()


def test_every_entry_of_the_catalogue_is_used() -> None:
    assert catalogue().keys() - strings() == set()


def test_no_code_stands_in_two_files() -> None:
    files = [tomllib.loads(path.read_text("utf-8")) for path in (ROOT / "raptr_dsl" / "codes").glob("*.toml")]
    assert sum(map(len, files)) == len(catalogue())


def test_what_is_reported_is_found() -> None:
    source = 'd.add("a", "m")\nraise fail("b", f"{x}")\nDiagnostic("c", "m", span)\n'
    source += 'table.add("no code", "m")\nother("d", "m")'
    assert list(reported(source)) == ["a", "b", "c"]


@pytest.mark.parametrize("name", sorted(catalogue()))
def test_entry_is_fit_to_read(name: str) -> None:
    entry = catalogue()[name]
    assert entry.title and not entry.title.endswith(".")
    assert len(entry.title) <= 100 and "\n" not in entry.title
    assert entry.explanation.strip()
    assert bool(entry.bad) == bool(entry.good)
    assert entry.bad != entry.good or not entry.bad


@pytest.mark.parametrize("name", SYNTAX)
def test_examples_of_syntax_codes(name: str) -> None:
    entry = catalogue()[name]
    assert [problem.code for problem in read(entry.bad)[1]] == [name]
    _, problems = read(entry.good)
    assert not problems, render_text(problems)


@pytest.mark.parametrize("name", COMPILED)
def test_examples_of_compiler_codes(name: str) -> None:
    entry = catalogue()[name]
    assert name in {problem.code for problem in check_text(entry.bad, Options()).diagnostics}
    good = check_text(entry.good, Options())
    assert good.ok and name not in {problem.code for problem in good.diagnostics}, render_text(good.diagnostics)
