"""Values of parameters that come as text (`--param start=6/12`), read as expressions of the language."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from raptr_dsl.compiler.params import Argument
from raptr_dsl.compiler.scope import Scope
from raptr_dsl.diagnostics import Diagnostics
from raptr_dsl.source import Source, Span
from raptr_dsl.syntax import ast
from raptr_dsl.syntax.parser import parse

_BEFORE = "let value = "
"""The language has no file that is one expression; this makes one of it, and is taken out of every place again."""


def arguments_of(params: Mapping[str, str], diagnostics: Diagnostics) -> dict[str, Argument]:
    """Each value with a source of its own, `--param NAME`; mistakes are recorded, and left out."""
    arguments: dict[str, Argument] = {}
    for name, text in params.items():
        source = Source(f"--param {name}", text)
        problems = Diagnostics()
        file = parse(Source(source.name, _BEFORE + text), problems)
        diagnostics.extend(_moved(problem, source) for problem in problems)
        match file.statements:
            case (ast.Let(value=value),) if not problems.has_errors:
                value = _moved(value, source)
                arguments[name] = Argument(name, value, Scope(diagnostics), value.span)
            case _ if not problems.has_errors:
                whole = Span(source, 0, len(text))
                diagnostics.add("param-type", f"the value of `{name}` is one expression", whole, help="write one value")
    return arguments


def _moved(node: Any, source: Source) -> Any:
    """A node or a diagnostic with all its spans in the value's own source."""
    if isinstance(node, Span):
        start, end = (max(0, offset - len(_BEFORE)) for offset in (node.start, node.end))
        return Span(source, start, end)
    if isinstance(node, tuple):
        return tuple(_moved(item, source) for item in node)
    if hasattr(node, "__dataclass_fields__"):
        return replace(node, **{field.name: _moved(getattr(node, field.name), source) for field in fields(node)})
    return node
