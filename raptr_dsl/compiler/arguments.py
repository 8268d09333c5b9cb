"""Pieces of the language that come as the text of an option: `--param start=6/12`, `--budget 'flops <= 75%'`."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from raptr_dsl.compiler.params import Argument
from raptr_dsl.compiler.scope import Scope
from raptr_dsl.diagnostics import Diagnostics
from raptr_dsl.source import Source, Span
from raptr_dsl.syntax import ast
from raptr_dsl.syntax.parser import parse


def arguments_of(params: Mapping[str, str], diagnostics: Diagnostics) -> dict[str, Argument]:
    """Each value with a source of its own, `--param NAME`; mistakes are recorded, and left out."""
    arguments: dict[str, Argument] = {}
    for name, text in params.items():
        source, problems = Source(f"--param {name}", text), Diagnostics()
        statements = parse_behind("let value = ", source, problems)
        diagnostics.extend(problems)
        match statements:
            case (ast.Let(value=value),) if not problems.has_errors:
                arguments[name] = Argument(name, value, Scope(diagnostics), value.span)
            case _ if not problems.has_errors:
                whole = Span(source, 0, len(text))
                diagnostics.add("param-type", f"the value of `{name}` is one expression", whole, help="write one value")
    return arguments


def parse_behind(words: str, source: Source, diagnostics: Diagnostics) -> tuple[ast.Statement, ...]:
    """The statements of a text that is no file by itself, but is one behind some words, without those in any place."""
    problems = Diagnostics()
    file = parse(Source(source.name, words + source.text), problems)
    diagnostics.extend(_moved(problem, source, len(words)) for problem in problems)
    return _moved(file.statements, source, len(words))


def _moved(node: Any, source: Source, by: int) -> Any:
    """A node or a diagnostic with all its spans in a source of its own, so many characters further to the left."""
    if isinstance(node, Span):
        start, end = (max(0, offset - by) for offset in (node.start, node.end))
        return Span(source, start, end)
    if isinstance(node, tuple):
        return tuple(_moved(item, source, by) for item in node)
    if hasattr(node, "__dataclass_fields__"):
        return replace(node, **{field.name: _moved(getattr(node, field.name), source, by) for field in fields(node)})
    return node
