"""`param`: a typed value within its bounds: from `--param`, from the arguments of a `run`, or its default."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from raptr_dsl.compiler.evaluate import evaluate, unknown_word
from raptr_dsl.compiler.scope import Meaning, Quantity, Scope
from raptr_dsl.diagnostics import Label, did_you_mean
from raptr_dsl.source import Span
from raptr_dsl.syntax import ast


@dataclass(frozen=True, slots=True)
class Argument:
    """A value for a parameter: an expression in the scope of whoever gives it."""

    name: str
    value: ast.Value
    scope: Scope
    span: Span


def bind_param(statement: ast.Param, argument: Argument | None, scope: Scope) -> None:
    """Defines a parameter's name; with no value if it has none, or with one that is wrong."""
    read = _type_of(statement, scope)
    if read is None:
        scope.define(statement.name, None)
        return
    bounds = _bounds_of(statement, read, scope)
    meaning: Meaning = None
    if statement.default is not None:
        meaning = read(statement.default, scope)
        meaning = _checked(meaning, statement.default, bounds, statement, scope)
    if argument is not None:
        meaning = read(argument.value, argument.scope)
        meaning = _checked(meaning, argument.value, bounds, statement, scope)
    elif statement.default is None:
        scope.diagnostics.add(
            "param-without-value",
            f"the parameter `{statement.name.text}` has no value",
            statement.span,
            related=() if scope.link is None else (scope.link.label,),
            help=f"give it one, as in {_example(statement, scope)}, or a default: = …",
        )
    if isinstance(meaning, Quantity):
        meaning = meaning._replace(parametric=True)
    scope.define(statement.name, meaning)


def check_names(
    given: Mapping[str, Argument], statements: Sequence[ast.Statement], title: str, scope: Scope
) -> None:
    """Records arguments for which there is no parameter."""
    names = [statement.name.text for statement in statements if isinstance(statement, ast.Param)]
    for argument in given.values():
        if argument.name in names:
            continue
        nearest = did_you_mean(argument.name, names)
        scope.diagnostics.add(
            "unknown-param",
            f"{title} has no parameter `{argument.name}`",
            argument.span,
            help=f"did you mean `{nearest}`?"
            if nearest
            else f"it has {', '.join(names)}"
            if names
            else "it has no parameters",
        )


Read = Callable[[ast.Value, Scope], Meaning]


def _number(node: ast.Value, scope: Scope, is_count: bool | None) -> Quantity | None:
    quantity = evaluate(node, scope)
    if quantity is None:
        return None
    if is_count and quantity.value.denominator != 1:
        scope.diagnostics.add(
            "param-type",
            f"{node.span.text} is no whole number, which this parameter has to be",
            node.span,
            related=scope.chain(quantity),
        )
        return None
    return quantity if is_count is None else quantity._replace(is_count=is_count)


_TYPES: dict[str, Read] = {
    "int": lambda node, scope: _number(node, scope, True),
    "fraction": lambda node, scope: _number(node, scope, False),
    "steps": lambda node, scope: _number(node, scope, None),
}


def _type_of(statement: ast.Param, scope: Scope) -> Read | None:
    """How to read a value of the parameter's type."""
    type_ = statement.type
    if isinstance(type_, ast.Name):
        read = _TYPES.get(type_.text)
        if read is None:
            legal = [*_TYPES, "choice(a, b)"]
            unknown_word(scope, type_.span, type_.text, legal, "the type of a parameter")
        return read
    if type_.name.text != "choice":
        unknown_word(
            scope,
            type_.name.span,
            type_.name.text,
            [*_TYPES, "choice"],
            "the type of a parameter with arguments",
        )
        return None
    words = [argument.value.text for argument in type_.args if isinstance(argument.value, ast.Name)]
    if not words or len(words) < len(type_.args) or any(argument.name for argument in type_.args):
        scope.diagnostics.add(
            "param-type", "choice lists words", type_.span, help="write choice(sqrt, none), one word or more"
        )
        return None

    def read_word(node: ast.Value, given: Scope) -> Meaning:
        word = node.text if isinstance(node, ast.Name) else node.span.text
        definition = given.find(word)
        if word not in words and definition is not None and (isinstance(definition.meaning, str | None)):
            word = definition.meaning
        if word is None or word in words:
            return word
        unknown_word(scope, node.span, word, words, f"`{statement.name.text}`")
        return None

    return read_word


Bounds = tuple[Quantity, Quantity, Span]


def _bounds_of(statement: ast.Param, read: Read, scope: Scope) -> Bounds | None:
    written = statement.bounds
    if written is None:
        return None
    if isinstance(statement.type, ast.Call):
        scope.diagnostics.add("param-bounds", "words have no bounds", written.span, help="remove the bounds")
        return None
    low, high = read(written.start, scope), read(written.stop, scope)
    if not (isinstance(low, Quantity) and isinstance(high, Quantity)):
        return None
    if low.is_count != high.is_count:
        scope.diagnostics.add(
            "param-bounds",
            "these bounds are a count and a share, which do not compare",
            written.span,
            help="write both as counts or both as shares",
        )
        return None
    if low.value > high.value:
        scope.diagnostics.add(
            "bounds-backwards",
            f"the bounds run backwards: {written.start.span.text} is more than {written.stop.span.text}",
            written.span,
            help=f"write {written.stop.span.text} .. {written.start.span.text}",
        )
        return None
    return low, high, written.span


def _checked(
    meaning: Meaning, node: ast.Value, bounds: Bounds | None, statement: ast.Param, scope: Scope
) -> Meaning:
    """The value if it is within the bounds, else None with that recorded."""
    if bounds is None or not isinstance(meaning, Quantity):
        return meaning
    low, high, span = bounds
    if meaning.is_count != low.is_count:
        kinds = ("a count", "shares") if meaning.is_count else ("a share", "counts")
        fact = f"{node.span.text} is {kinds[0]}, and the bounds of `{statement.name.text}` are {kinds[1]}"
    elif not low.value <= meaning.value <= high.value:
        fact = f"{node.span.text} is outside the bounds of `{statement.name.text}`"
    else:
        return meaning
    scope.diagnostics.add(
        "param-bounds",
        fact,
        node.span,
        related=[Label(span, "the bounds")],
        help=f"choose a value in {span.text}",
    )
    return None


def _example(statement: ast.Param, scope: Scope) -> str:
    name = statement.name.text
    return f"--param {name}=…" if scope.link is None else f"run …({name}=…)"
