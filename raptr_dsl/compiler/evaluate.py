"""Expressions → exact numbers, lists and words (rules 1–3). Nothing here rounds, and nothing is a float."""

from collections.abc import Collection, Iterable
from fractions import Fraction

from raptr_dsl.compiler.scope import Quantity, Scope
from raptr_dsl.diagnostics import did_you_mean
from raptr_dsl.source import Span
from raptr_dsl.syntax import ast

MAX_BITS = 256
"""Of the numerator and of the denominator of a result."""

_KINDS = {
    ast.String: "a text",
    ast.Call: "a call",
    ast.Range: "a range",
    ast.List: "a list",
}


def evaluate(node: ast.Value, scope: Scope) -> Quantity | None:
    """The value of an expression, or None with every mistake in it recorded.

    A chain of operators is walked in a loop: it can be as long as a file.
    """
    if isinstance(node, ast.Number):
        return Quantity(node.value, node.is_count)
    if isinstance(node, ast.Binary):
        return _evaluate_chain(node, scope)
    if isinstance(node, ast.Unary):
        return _evaluate_signs(node, scope)
    if isinstance(node, ast.Name):
        return _number_of_name(node, scope)
    if isinstance(node, ast.Hole):
        misplaced_hole(node, scope)
        return None
    scope.diagnostics.add(
        "not-a-number",
        f"{_KINDS[type(node)]} stands where a number is meant",
        node.span,
        help="numbers are written 6, 6/12, 50% or 675k; they combine with + - * / and ( )",
    )
    return None


def is_too_large(number: Fraction) -> bool:
    """Whether a result passes the limit on numbers; such a number is refused before it is used."""
    return number.numerator.bit_length() > MAX_BITS or number.denominator.bit_length() > MAX_BITS


def bounded_sum(numbers: Iterable[Fraction]) -> Fraction | None:
    """The sum, or None if it passes the limit on the way: unlike denominators multiply."""
    total = Fraction(0)
    for number in numbers:
        total += number
        if is_too_large(total):
            return None
    return total


def count_of(node: ast.Value, scope: Scope, what: str, least: int = 0, most: int | None = None) -> int | None:
    """A whole number `least` ≤ n ≤ `most`, or None with the mistake recorded; `what` names it in messages."""
    quantity = evaluate(node, scope)
    if quantity is None:
        return None
    value = quantity.value
    # A fraction's own value is legal here if it is whole: `4/2` groups are 2 groups.
    if value.denominator == 1 and value >= least and (most is None or value <= most):
        return value.numerator
    if value.denominator != 1:
        fact = f"{what} is a whole number, and {shown(node, quantity)} is not"
    elif most is None:
        fact = f"{what} is at least {least}, and {shown(node, quantity)} is less"
    else:
        fact = f"{what} is between {least:,} and {most:,}, and {shown(node, quantity)} is not"
    scope.diagnostics.add("bad-number", fact, node.span, related=scope.chain(quantity))
    return None


def word_of(node: ast.Value, scope: Scope, legal: Collection[str], what: str) -> str | None:
    """One of the legal words, or None with the mistake recorded; `what` names the place in the message.

    A choice parameter stands for the word it was given. A word that begins with a digit stands in quotes.
    """
    if isinstance(node, ast.String) and node.value in legal and word_text(node.value) != node.value:
        return node.value
    if isinstance(node, ast.Name):
        definition = scope.find(node.text)
        meaning = definition.meaning if definition is not None else node.text
        word = meaning if isinstance(meaning, str) else node.text
        if word in legal:
            return word
        if meaning is not None:
            unknown_word(scope, node.span, word, legal, f"{what} cannot be `{word}`")
        return None
    if isinstance(node, ast.Hole):
        misplaced_hole(node, scope)
        return None
    if isinstance(node, ast.Call) and node.name.text in legal:
        scope.diagnostics.add(
            "bad-value",
            f"`{node.name.text}` takes no arguments",
            node.span,
            help=f"write {node.name.text}",
        )
        return None
    unknown_word(scope, node.span, node.span.text, legal, f"{what} cannot be {node.span.text}")
    return None


def unknown_word(scope: Scope, span: Span, word: str, legal: Collection[str], fact: str) -> None:
    """Records that a word is none of those legal in its place; `fact` says so."""
    nearest = did_you_mean(word, legal)
    scope.diagnostics.add(
        "unknown-word",
        fact,
        span,
        help=(f"did you mean `{nearest}`? " if nearest else "") + "legal here: " + ", ".join(map(word_text, legal)),
    )


def word_text(word: str) -> str:
    """A word as a file writes it: `palm`, `"6nd"`."""
    return f'"{word}"' if word[:1].isdigit() else word


def shown(node: ast.Value, quantity: Quantity) -> str:
    """A number as written, with its value where that is not plain to see: `start = 7/6`."""
    parts = (node.left, node.right) if isinstance(node, ast.Binary) else (node,)
    is_plain = all(isinstance(part.operand if isinstance(part, ast.Unary) else part, ast.Number) for part in parts)
    return node.span.text if is_plain else f"{node.span.text} = {quantity.value}"


def misplaced_hole(node: ast.Hole, scope: Scope) -> None:
    """Records a `?` that nothing solves: those that can be are filled before a file is lowered (rule 40)."""
    if scope.link is None:
        scope.diagnostics.add(
            "misplaced-hole",
            "`?` stands for the whole of a duration in steps or of a size, and nothing else is solved",
            node.span,
            help="write the value here, and steps=? or depth=? on the stage that is to be solved",
        )
        return
    scope.diagnostics.add(
        "hole-in-a-part",
        "a file that is run as a part of another has no holes: its requirements do not count there",
        node.span,
        related=[scope.link.label],
        help="write the solution into it with raptr solve --write, or make it a parameter that the run sets",
    )


def _number_of_name(node: ast.Name, scope: Scope) -> Quantity | None:
    definition = scope.lookup(node)
    if definition is None or definition.meaning is None:
        return None
    meaning = definition.meaning
    if isinstance(meaning, Quantity):
        return meaning
    kind = f"the word {meaning}" if isinstance(meaning, str) else _KINDS[type(meaning)]
    scope.diagnostics.add("not-a-number", f"`{node.text}` is {kind}, not a number", node.span)
    return None


def _evaluate_signs(node: ast.Value, scope: Scope) -> Quantity | None:
    negative = False
    while isinstance(node, ast.Unary):
        negative = not negative
        node = node.operand
    quantity = evaluate(node, scope)
    return quantity._replace(value=-quantity.value) if quantity and negative else quantity


def _evaluate_chain(node: ast.Binary, scope: Scope) -> Quantity | None:
    chain: list[ast.Binary] = []
    first: ast.Value = node
    while isinstance(first, ast.Binary):
        chain.append(first)
        first = first.left
    result = evaluate(first, scope)
    for binary in reversed(chain):
        right = evaluate(binary.right, scope)
        result = None if result is None or right is None else _combine(binary, result, right, scope)
    return result


def _combine(node: ast.Binary, left: Quantity, right: Quantity, scope: Scope) -> Quantity | None:
    """Rule 1: `+ - *` of counts is a count, everything else a share."""
    both_counts = left.is_count and right.is_count
    parametric = left.parametric or right.parametric
    if node.op == "/":
        if not right.value:
            scope.diagnostics.add(
                "division-by-zero",
                "division by zero",
                node.right.span,
                label="this is 0",
                related=scope.chain(right),
            )
            return None
        # A count over a count is written in parts of the whole; the denominator is a promise about the model.
        if both_counts:
            over = right.value.numerator
            written = (over,) if over > 1 else ()
            result = Quantity(Fraction(left.value.numerator, over), False, written, parametric)
        else:
            result = Quantity(left.value / right.value, False, left.denominators, parametric)
    else:
        value = _ARITHMETIC[node.op](left.value, right.value)
        written = tuple(dict.fromkeys(left.denominators + right.denominators))
        result = Quantity(value, both_counts, written, parametric)
    if is_too_large(result.value):
        scope.diagnostics.add(
            "limit-number",
            f"the result of this calculation needs more than {MAX_BITS} bits",
            node.span,
            help=f"numbers are exact and have at most {MAX_BITS} bits above and below the fraction bar",
        )
        return None
    return result


_ARITHMETIC = {
    "+": Fraction.__add__,
    "-": Fraction.__sub__,
    "*": Fraction.__mul__,
}
