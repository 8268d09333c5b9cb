"""What share of a ramp each of its stages takes: `stages=`, `shares=[…]`, `shares=power(a)` (rule 10)."""

from fractions import Fraction

from raptr_dsl.compiler.evaluate import MAX_BITS, bounded_sum, count_of, evaluate
from raptr_dsl.compiler.expand import MAX_STAGES
from raptr_dsl.compiler.gather import Given
from raptr_dsl.compiler.scope import Scope
from raptr_dsl.compiler.units import named_list
from raptr_dsl.syntax import ast
from raptr_dsl.wording import plural, share_text

_POWER = "power"
MAX_POWER = 64


def shares_of(statement: ast.Ramp, given: Given, scope: Scope) -> list[Fraction] | None:
    """What share of the ramp each of its stages takes, or None with what is wrong recorded."""
    stages, shares = given.words.get("stages"), given.words.get("shares")
    listed = named_list(shares.value, scope) if shares else None
    if stages is None and not isinstance(listed, ast.List):
        scope.diagnostics.add(
            "missing-attribute",
            "this ramp does not say how many stages it has",
            statement.span,
            help="add stages=4",
        )
        return None
    count = None
    if stages is not None:
        count = count_of(stages.value, scope, "stages=", least=2, most=MAX_STAGES)
        if count is None:
            return None
    if shares is not None and isinstance(listed, ast.List):
        weights = _listed(listed, count, shares, scope)
    elif shares is not None:
        weights = _power(shares, count or 0, scope)
    else:
        weights = [Fraction(1)] * (count or 0)
    if weights is None:
        return None
    total = sum(weights, Fraction(0))
    return [weight / total for weight in weights]


def _listed(node: ast.List, count: int | None, shares: ast.Attribute, scope: Scope) -> list[Fraction] | None:
    """`shares=[1, 2, 3]`, in proportion; shares proper have to add up to the whole."""
    read = [evaluate(item, scope) for item in node.items]
    quantities = [quantity for quantity in read if quantity is not None]
    if len(quantities) < len(read):
        return None
    low = next((i for i, quantity in enumerate(quantities) if quantity.value <= 0), None)
    total = bounded_sum(quantity.value for quantity in quantities)
    place = shares.value.span
    if low is not None:
        fact, place = "each stage of a ramp takes more than no time", node.items[low].span
    elif count is not None and len(quantities) != count:
        fact = f"{plural(len(quantities), 'share')} {'is' if len(quantities) == 1 else 'are'} given for {count} stages"
    elif len(quantities) < 2:
        fact = "a ramp has at least two stages"
    elif total is None:
        fact = f"these shares add up to a number of more than {MAX_BITS} bits"
    elif total != 1 and not all(quantity.is_count for quantity in quantities):
        fact = f"these shares add up to {share_text(total)} of the ramp"
    else:
        return [quantity.value for quantity in quantities]
    scope.diagnostics.add(
        "bad-shares", fact, place, help="give one a stage; whole numbers are taken in proportion: shares=[1, 2, 3, 4]"
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
    if bounded_sum(weights) is not None:
        return weights
    fact = f"the powers of {plural(count, 'stage')} add up to a number of more than {MAX_BITS} bits"
    scope.diagnostics.add("limit-number", fact, node.span, help="take a smaller power")
    return None
