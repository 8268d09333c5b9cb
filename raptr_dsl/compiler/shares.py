"""What share of a ramp each of its stages takes: `stages=`, `shares=[…]`, `shares=power(a)` (rule 10)."""

from fractions import Fraction

from raptr_dsl.compiler.evaluate import count_of, evaluate, is_too_large
from raptr_dsl.compiler.expand import MAX_STAGES
from raptr_dsl.compiler.gather import Given
from raptr_dsl.compiler.scope import Scope
from raptr_dsl.compiler.units import named_list
from raptr_dsl.diagnostics import Label
from raptr_dsl.syntax import ast
from raptr_dsl.wording import share_text

_POWER = "power"
MAX_POWER = 64


def shares_of(statement: ast.Ramp, given: Given, scope: Scope) -> list[Fraction] | None:
    """What share of the ramp each of its stages takes, or None with what is wrong recorded."""
    stages, shares = given.words.get("stages"), given.words.get("shares")
    weights = None
    if shares is not None:
        node = named_list(shares.value, scope)
        if isinstance(node, ast.List):
            weights = _listed(node, shares, stages, scope)
            if weights is None:
                return None
    if stages is None and weights is None:
        scope.diagnostics.add(
            "missing-attribute",
            "this ramp does not say how many stages it has",
            statement.span,
            help="add stages=4",
        )
        return None
    count = len(weights or ())
    if stages is not None:
        counted = count_of(stages.value, scope, "stages=", least=2, most=MAX_STAGES)
        if counted is None:
            return None
        if weights is not None and counted != count:
            scope.diagnostics.add(
                "bad-shares",
                f"{count} shares are given for {counted} stages",
                shares.value.span if shares else None,
                related=[Label(stages.span, f"{counted} stages here")],
                help=f"give {counted} shares, or leave stages= out",
            )
            return None
        count = counted
    if shares is not None and weights is None:
        weights = _power(shares, count, scope)
        if weights is None:
            return None
    total = sum(weights, Fraction(0)) if weights else Fraction(count)
    return [weight / total for weight in weights or [Fraction(1)] * count]


def _listed(node: ast.List, shares: ast.Attribute, stages: ast.Attribute | None, scope: Scope) -> list[Fraction] | None:
    """`shares=[1, 2, 3]`, in proportion; shares proper have to add up to the whole."""
    read = [evaluate(item, scope) for item in node.items]
    quantities = [quantity for quantity in read if quantity is not None]
    if len(quantities) < len(read):
        return None
    low = next((i for i, quantity in enumerate(quantities) if quantity.value <= 0), None)
    total = sum((quantity.value for quantity in quantities), Fraction(0))
    if low is not None:
        fact, place = "each stage of a ramp takes more than no time", node.items[low].span
    elif len(quantities) < 2:
        fact, place = "a ramp has at least two stages", shares.span
    elif total != 1 and not all(quantity.is_count for quantity in quantities):
        fact, place = f"these shares add up to {share_text(total)} of the ramp", shares.value.span
    elif is_too_large(total):
        fact, place = "these shares add up to a number of more than 256 bits", shares.value.span
    else:
        return [quantity.value for quantity in quantities]
    scope.diagnostics.add(
        "bad-shares", fact, place, help="whole numbers are taken in proportion, as in shares=[1, 2, 3, 4]"
    )
    return None


def _power(shares: ast.Attribute, count: int, scope: Scope) -> list[Fraction] | None:
    """`shares=power(a)`: stage i takes a part in proportion to i^a, i from 1."""
    node = shares.value
    if not (isinstance(node, ast.Call) and node.name.text == _POWER and len(node.args) == 1):
        scope.diagnostics.add(
            "bad-shares",
            "shares= is a list, or power(a)",
            node.span,
            help="write shares=[1, 2, 3, 4], or shares=power(1), which is the same",
        )
        return None
    exponent = count_of(node.args[0].value, scope, "the exponent", most=MAX_POWER)
    if exponent is None:
        return None
    weights = [Fraction(number**exponent) for number in range(1, count + 1)]
    if not is_too_large(sum(weights, Fraction(0))):
        return weights
    scope.diagnostics.add(
        "limit-number", f"the powers of {count} stages add up to a number of more than 256 bits", node.span
    )
    return None
