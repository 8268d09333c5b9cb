"""The types of parameters. A new type is one more entry of `TYPES`."""

from collections.abc import Callable

from raptr_dsl.compiler.evaluate import evaluate, shown, unknown_word
from raptr_dsl.compiler.scope import Meaning, Quantity, Scope
from raptr_dsl.syntax import ast

Read = Callable[[ast.Value, Scope], Meaning]
"""The value of an expression as a type has it, or None with what is wrong recorded."""

_CHOICE = "choice"


def type_of(statement: ast.Param, scope: Scope) -> Read | None:
    """How to read a value of the parameter's type, or None with what is wrong with the type recorded."""
    type_ = statement.type
    if isinstance(type_, ast.Call):
        return _choice(statement, type_, scope)
    read = TYPES.get(type_.text)
    if read is None:
        legal = [*TYPES, "choice(a, b)"]
        unknown_word(scope, type_.span, type_.text, legal, f"there is no type called `{type_.text}`")
    return read


def _number(node: ast.Value, scope: Scope) -> Quantity | None:
    """A count or a share, as it is written: what a duration can be."""
    return evaluate(node, scope)


def _fraction(node: ast.Value, scope: Scope) -> Quantity | None:
    """Only a share is legal, so a bare number is its value (rule 1)."""
    quantity = evaluate(node, scope)
    return quantity and quantity._replace(is_count=False)


def _int(node: ast.Value, scope: Scope) -> Quantity | None:
    quantity = evaluate(node, scope)
    if quantity is None or quantity.value.denominator == 1:
        return quantity and quantity._replace(is_count=True)
    scope.diagnostics.add(
        "param-type",
        f"{shown(node, quantity)} is not a whole number, as this parameter has to be",
        node.span,
        related=scope.chain(quantity),
    )
    return None


TYPES: dict[str, Read] = {"int": _int, "fraction": _fraction, "steps": _number}


def _choice(statement: ast.Param, type_: ast.Call, scope: Scope) -> Read | None:
    """`choice(sqrt, none)`: one of these words."""
    name = type_.name
    if name.text != _CHOICE:
        unknown_word(scope, name.span, name.text, [*TYPES, _CHOICE], f"there is no type called `{name.text}(…)`")
        return None
    words = [argument.value.text for argument in type_.args if isinstance(argument.value, ast.Name)]
    if not words or len(words) < len(type_.args) or any(argument.name for argument in type_.args):
        scope.diagnostics.add(
            "param-type", "choice lists words", type_.span, help="write choice(sqrt, none), one word or more"
        )
        return None

    def read(node: ast.Value, given: Scope) -> Meaning:
        word = node.text if isinstance(node, ast.Name) else node.span.text
        definition = given.find(word)
        if word not in words and definition is not None and isinstance(definition.meaning, str | None):
            word = definition.meaning
        if word is None or word in words:
            return word
        unknown_word(scope, node.span, word, words, f"`{statement.name.text}` cannot be `{word}`")
        return None

    return read
