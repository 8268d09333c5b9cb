"""`model`: the shape that a schedule is checked against by default: a name, words, or a name and words."""

from fractions import Fraction
from typing import Any

from pydantic import ValidationError

from raptr_dsl.compiler.evaluate import count_of, evaluate, word_of
from raptr_dsl.compiler.scope import Scope
from raptr_dsl.diagnostics import Edit, Label, did_you_mean
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.models import MODEL_NAMES, MODEL_WORDS, MODELS, describe_problem
from raptr_dsl.syntax import ast


def shape_of(statement: ast.Model, scope: Scope) -> ModelShape | None:
    """The shape that a `model` statement describes, or None with every mistake in it recorded."""
    words = _named(statement, scope)
    written = _written(statement, scope)
    values: dict[str, Any] = {}
    for name, attribute in written.items():
        value = _value(name, attribute.value, scope)
        if value is None:
            words = None
        values[name] = value
    if words is None or len(written) < len(statement.attributes):
        return None
    try:
        return ModelShape(**{**words, **values})
    except ValidationError as error:
        _report(error, statement, written, words | values, scope)
        return None


def _named(statement: ast.Model, scope: Scope) -> dict[str, Any] | None:
    """The words of the built-in model, none if the statement names none; None if there is no such model."""
    if statement.name is None:
        return {}
    name = statement.name.text
    if name in MODELS:
        return dict(MODELS[name])
    nearest = did_you_mean(name, MODEL_NAMES)
    scope.diagnostics.add(
        "unknown-model",
        f"there is no model called `{name}`",
        statement.name.span,
        help=f"did you mean {nearest}?" if nearest else f"known are {', '.join(MODEL_NAMES)}",
        fix=Edit(statement.name.span, nearest) if nearest else None,
    )
    return None


def _written(statement: ast.Model, scope: Scope) -> dict[str, ast.Attribute]:
    written: dict[str, ast.Attribute] = {}
    for attribute in statement.attributes:
        name = attribute.name.text
        if attribute.axis is not None or name not in MODEL_WORDS:
            nearest = did_you_mean(name, MODEL_WORDS)
            scope.diagnostics.add(
                "unknown-model-word",
                f"`{attribute.span.text.partition('=')[0].strip()}` is not a word of a model",
                (attribute.axis or attribute.name).span,
                help=f"did you mean `{nearest}`?" if nearest else "legal here: " + ", ".join(MODEL_WORDS),
            )
        elif name in written:
            scope.diagnostics.add(
                "duplicate-attribute",
                f"{name}= is given twice",
                attribute.span,
                label="again here",
                related=[Label(written[name].span, "first given here")],
                help="remove one of the two",
            )
        else:
            written[name] = attribute
    return written


def _value(name: str, node: ast.Value, scope: Scope) -> Any:
    """A value as the type of its word: true or false, a number of whole things, or a share."""
    annotation = ModelShape.model_fields[name].annotation
    if annotation is bool:
        word = word_of(node, scope, ("true", "false"), f"{name}=")
        return None if word is None else word == "true"
    if annotation is int:
        return count_of(node, scope, f"{name}=", least=1, most=2**40)
    quantity = evaluate(node, scope)
    if quantity is None or 0 < quantity.value <= 1:
        return None if quantity is None else Fraction(quantity.value)
    scope.diagnostics.add("bad-number", f"{name}= is more than 0 and at most 1, and {node.span.text} is not", node.span)
    return None


def _report(
    error: ValidationError,
    statement: ast.Model,
    written: dict[str, ast.Attribute],
    words: dict[str, Any],
    scope: Scope,
) -> None:
    """What the shape as a whole lacks, or how its words contradict each other."""
    problems = error.errors()
    missing = [str(problem["loc"][0]) for problem in problems if problem["type"] == "missing"]
    # These follow from others; where those are missing too, they are not to blame.
    missing = [name for name in missing if name not in ("kv_heads", "width_group", "head_dim")] or missing
    if missing == ["head_dim"]:
        scope.diagnostics.add(
            "bad-model",
            f"hidden={words['hidden']} is no multiple of heads={words['heads']}: how large is a head?",
            statement.span,
            help="change one of them, or give head_dim=64",
        )
        return
    if missing:
        scope.diagnostics.add(
            "bad-model",
            f"this model lacks {', '.join(f'{name}=' for name in missing)}",
            statement.span,
            help="add " + " ".join(f"{name}=…" for name in missing),
        )
        return
    for problem in problems:
        fact = describe_problem(problem)
        named = [attribute for name, attribute in written.items() if f"{name}=" in fact]
        related = [Label(attribute.span, "and here") for attribute in named[:-1]]
        scope.diagnostics.add("bad-model", fact, (named or [statement])[-1].span, related=related)
