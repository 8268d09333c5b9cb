"""What a stage writes after `depth=`: a count, a share, a probability, a draw, a curve (rules 1, 5–7, 15)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from raptr_dsl.axes import Axis
from raptr_dsl.compiler.calls import construct
from raptr_dsl.compiler.evaluate import evaluate, shown, unknown_word
from raptr_dsl.compiler.scope import Quantity, Scope
from raptr_dsl.compiler.units import named_list
from raptr_dsl.curves import CURVES, Curve, Linear
from raptr_dsl.ir.schedule import Amount, Drawn, Exactly, Probability, Rounding, Size, Varying
from raptr_dsl.syntax import ast

LINEAR = Linear()
ROUNDINGS: dict[str, Rounding] = {"round": "nearest", "floor": "floor", "ceil": "ceil"}
_WHOLE = Quantity(Fraction(1), False)


class ReadSize(NamedTuple):
    """A size as read.

    Attributes:
        size: None where it is the whole axis in every model.
        quantities: the numbers written in it.
        own_curve: whether it names its curve, so that a ramp's `curve=` does not reach it.
        rounded: whether it asks for rounding.
    """

    size: Size | None
    quantities: tuple[Quantity, ...] = ()
    own_curve: bool = False
    rounded: bool = False

    @property
    def parametric(self) -> bool:
        return any(quantity.parametric for quantity in self.quantities)

    @property
    def denominators(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(d for quantity in self.quantities for d in quantity.denominators))

    @property
    def can_be_none(self) -> bool:
        """Whether some number in it is 0."""
        return any(not quantity.value for quantity in self.quantities)


def size_of(node: ast.Value, axis: Axis, scope: Scope) -> ReadSize | None:
    """The size that a value says, or None with what is wrong with it recorded."""
    return _SizeReader(axis, scope).read(node)


def curve_ends(node: ast.Value, scope: Scope) -> tuple[ast.Value, ast.Value, Curve] | None:
    """The two ends and the curve of `a..b` or `exp(a, b, rate)`; for nodes of which `is_curve` holds."""
    if isinstance(node, ast.Range):
        return node.start, node.stop, LINEAR
    assert isinstance(node, ast.Call)
    cls, name = CURVES[node.name.text], node.name.text
    ends, rest = node.args[:2], node.args[2:]
    if len(ends) < 2 or any(end.name for end in ends):
        scope.diagnostics.add(
            "missing-argument",
            f"`{name}` goes from one value to another, and both stand first in it",
            node.span,
            help=f"write {name}(a, b, {cls.parameter})" if cls.parameter else f"write {name}(a, b)",
        )
        return None
    curve = construct(cls, "curve", rest, node, scope)
    return None if curve is None else (ends[0].value, ends[1].value, curve)


def is_curve(node: ast.Value) -> bool:
    return isinstance(node, ast.Range) or (isinstance(node, ast.Call) and node.name.text in CURVES)


@dataclass(slots=True)
class _SizeReader:
    """Reads one size; `quantities` gathers its numbers on the way."""

    axis: Axis
    scope: Scope
    quantities: list[Quantity] = field(default_factory=list)

    def read(self, node: ast.Value) -> ReadSize | None:
        named = named_list(node, self.scope)
        node = node if isinstance(named, ast.List) else named
        if is_curve(node):
            return self.varying(node)
        if isinstance(node, ast.Call):
            return self.call(node)
        return self.exactly(node)

    def done(self, size: Size, own_curve: bool = False) -> ReadSize:
        """The size as read, or the whole axis if every number in it is 100%."""
        is_whole = not any(q.is_count or q.value.numerator != q.value.denominator for q in self.quantities)
        return ReadSize(None if is_whole else size, tuple(self.quantities), own_curve)

    def exactly(self, node: ast.Value, rounding: Rounding = "exact") -> ReadSize | None:
        quantity = self.number(node)
        if quantity is None:
            return None
        value = quantity.value
        return self.done(_exactly(value.numerator, value.denominator, quantity.is_count, rounding))

    def varying(self, node: ast.Value, rounding: Rounding = "nearest") -> ReadSize | None:
        ends = curve_ends(node, self.scope)
        if ends is None:
            return None
        start, stop = self.amount(ends[0]), self.amount(ends[1])
        if start is None or stop is None:
            return None
        size = Varying(curve=ends[2], start=start, stop=stop, rounding=rounding)
        return self.done(size, isinstance(node, ast.Call))

    def call(self, node: ast.Call) -> ReadSize | None:
        name = node.name.text
        if name in ROUNDINGS:
            return self.rounded(node, ROUNDINGS[name])
        if name in _FORMS:
            return _FORMS[name](self, node)
        legal = [*ROUNDINGS, *_FORMS, *CURVES]
        unknown_word(self.scope, node.name.span, name, legal, f"{self.axis.name}= cannot be `{name}(…)`")
        return None

    def rounded(self, node: ast.Call, rounding: Rounding) -> ReadSize | None:
        inner = self.only_argument(node)
        if inner is None:
            return None
        read = self.varying(inner, rounding) if is_curve(inner) else self.exactly(inner, rounding)
        return read and read._replace(rounded=True)

    def probability(self, node: ast.Call) -> ReadSize | None:
        inner = self.only_argument(node)
        if inner is None:
            return None
        if not is_curve(inner):
            chance = self.chance(inner)
            return None if chance is None else self.done(Probability(start=chance))
        ends = curve_ends(inner, self.scope)
        if ends is None:
            return None
        start, stop = self.chance(ends[0]), self.chance(ends[1])
        if start is None or stop is None:
            return None
        return self.done(Probability(start=start, stop=stop, curve=ends[2]), isinstance(inner, ast.Call))

    def drawn(self, node: ast.Call) -> ReadSize | None:
        values = [named_list(argument.value, self.scope) for argument in node.args if argument.name is None]
        if not values or len(values) < len(node.args):
            self.scope.diagnostics.add(
                "bad-value",
                "draw takes the sizes to draw from",
                node.span,
                help="write draw(1/4, 1/2, 100%), or draw(4..8) for every size between",
            )
            return None
        only = values[0] if len(values) == 1 else None
        is_range = isinstance(only, ast.Range)
        amounts = [self.amount(value) for value in ((only.start, only.stop) if is_range else values)]
        sizes = tuple(amount for amount in amounts if amount is not None)
        return self.done(Drawn(amounts=sizes, is_range=is_range)) if len(sizes) == len(amounts) else None

    def only_argument(self, node: ast.Call) -> ast.Value | None:
        if len(node.args) == 1 and node.args[0].name is None:
            return named_list(node.args[0].value, self.scope)
        name = node.name.text
        self.scope.diagnostics.add("bad-value", f"`{name}` takes one value", node.span, help=f"write {name}(6/12)")
        return None

    def amount(self, node: ast.Value) -> Amount | None:
        """A count or a share of the axis."""
        quantity = self.number(node)
        return None if quantity is None else Amount(value=quantity.value, is_count=quantity.is_count)

    def number(self, node: ast.Value) -> Quantity | None:
        """A number that can be a size: 0 or more, and no more than the whole axis."""
        quantity = _WHOLE if isinstance(node, ast.Name) and node.text == "all" else evaluate(node, self.scope)
        if quantity is None:
            return None
        self.quantities.append(quantity)
        value = quantity.value
        if value.numerator < 0:
            self.refuse(node, quantity, f"{shown(node, quantity)} is less than none", "")
        elif value.numerator > value.denominator and not quantity.is_count:
            fact = f"{shown(node, quantity)} is more than the whole of {self.axis.name}"
            self.refuse(node, quantity, fact, "a share is at most 100%; write `all` for the whole")
        else:
            return quantity
        return None

    def chance(self, node: ast.Value) -> Fraction | None:
        """A probability: only a share is legal, so a bare number is its value (rule 1)."""
        quantity = evaluate(node, self.scope)
        if quantity is None:
            return None
        self.quantities.append(quantity._replace(is_count=False))
        if 0 <= quantity.value <= 1:
            return quantity.value
        self.refuse(node, quantity, f"the probability {shown(node, quantity)} is not between 0 and 1", "")
        return None

    def refuse(self, node: ast.Value, quantity: Quantity, fact: str, help: str) -> None:
        self.scope.diagnostics.add("size-range", fact, node.span, help=help, related=self.scope.chain(quantity))


_FORMS: dict[str, Callable[[_SizeReader, ast.Call], ReadSize | None]] = {
    "prob": _SizeReader.probability,
    "draw": _SizeReader.drawn,
}


@lru_cache(maxsize=1024)
def _exactly(numerator: int, denominator: int, is_count: bool, rounding: Rounding) -> Exactly:
    """One of the few sizes that the many stages of a long file have."""
    return Exactly(amount=Amount(value=Fraction(numerator, denominator), is_count=is_count), rounding=rounding)
