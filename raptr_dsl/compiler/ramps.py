"""`ramp`: stages whose sizes are spread along a curve, its ends included (rule 10)."""

from collections.abc import Mapping
from fractions import Fraction

from raptr_dsl.compiler.calls import make
from raptr_dsl.compiler.durations import Spec, spec_of
from raptr_dsl.compiler.gather import RAMP, Given, gather
from raptr_dsl.compiler.levels import Group, Leaf
from raptr_dsl.compiler.origins import StagePlaces
from raptr_dsl.compiler.rules import AxisDraft, axes_of, full_rule
from raptr_dsl.compiler.scope import Scope
from raptr_dsl.compiler.settings import Settings, whole_of
from raptr_dsl.compiler.shares import shares_of
from raptr_dsl.compiler.sizes import LINEAR
from raptr_dsl.curves import CURVES, Curve
from raptr_dsl.diagnostics import Label
from raptr_dsl.ir.schedule import Amount, AxisRule, Exactly, Probability, Varying
from raptr_dsl.syntax import ast


def ramp_of(statement: ast.Ramp, settings: Settings, scope: Scope) -> Group:
    """The stages that a ramp expands to; what is wrong with it is recorded, and left out of it."""
    given = gather(statement.attributes, RAMP, scope.diagnostics)
    drafts = axes_of(given, settings, scope) or {}
    spec = spec_of(given, statement, "ramp", scope)
    curve = _curve(given, drafts, scope)
    shares = shares_of(statement, given, scope) or []
    rules = {axis: _rules(draft, curve, len(shares), scope) for axis, draft in drafts.items()}
    whole = whole_of(given, settings, scope)
    places = StagePlaces(statement.span, spec.attribute if spec else None, drafts, whole)
    values = {field: setting.value for field, setting in whole.items()}
    name = statement.name.text if statement.name else None
    parts: list[Leaf | Group] = [
        Leaf(
            name and f"{name}-{number + 1}",
            {axis: rule for axis, by_stage in rules.items() if (rule := by_stage[number])},
            places,
            spec and Spec("share", share, spec.attribute),
            Label(statement.span, f"stage {number + 1} of {len(shares)}"),
            values,
        )
        for number, share in enumerate(shares)
    ]
    return Group(parts, statement.span, "ramp", "this ramp", spec=spec)


def _curve(given: Given, drafts: Mapping[str, AxisDraft], scope: Scope) -> Curve | None:
    """`curve=`: the curve of every `a..b` of the ramp."""
    attribute = given.words.get("curve")
    if attribute is None:
        return LINEAR
    if drafts and not any(_is_spread(draft) and not draft.read.own_curve for draft in drafts.values()):
        scope.diagnostics.add(
            "no-effect",
            "curve= has no effect: no size of this ramp is a range",
            attribute.span,
            help="write a range, such as depth=6/12..12/12",
        )
    return make(attribute.value, CURVES, "curve", scope, "curve=")


def _is_spread(draft: AxisDraft) -> bool:
    size = draft.read.size
    return isinstance(size, Varying) or (isinstance(size, Probability) and size.curve is not None)


def _rules(draft: AxisDraft, curve: Curve | None, count: int, scope: Scope) -> list[AxisRule | None]:
    """The rule of each stage along one axis; None where it runs in full, or with what is wrong recorded."""
    rule = draft.rule
    if rule is None or not _is_spread(draft):
        return [rule] * count
    values = _values(draft, curve, count, scope)
    if values is None:
        return [None] * count
    full = full_rule(vars(rule))
    if isinstance(draft.read.size, Probability):
        return [rule.model_copy(update={"size": Probability(start=value)}) if value != 1 else full for value in values]
    assert isinstance(draft.read.size, Varying)
    is_count = draft.read.size.start.is_count
    rounding = draft.read.size.rounding if draft.read.rounded else "exact"
    return [
        rule.model_copy(update={"size": Exactly(amount=Amount(value=value, is_count=is_count), rounding=rounding)})
        if value != 1 or is_count
        else full
        for value in values
    ]


def _values(draft: AxisDraft, curve: Curve | None, count: int, scope: Scope) -> list[Fraction] | None:
    """The curve at i/(count − 1): exact, unless the file rounds it anyway."""
    size, node = draft.read.size, draft.size.value
    chosen = size.curve if draft.read.own_curve and isinstance(size, Varying | Probability) else curve
    if chosen is None:
        return None
    ends = _ends(draft, scope)
    if ends is None:
        return None
    start, stop, whole = ends
    values: list[Fraction] = []
    for number in range(count):
        u = Fraction(number, count - 1)
        rise = chosen.exact(u)
        value = start + (stop - start) * (chosen.value(u) if rise is None else rise)
        if not draft.read.rounded and (rise is None or (whole and value.denominator != 1)):
            axis = draft.size.name.text
            rounding = "" if isinstance(size, Probability) else f"{axis}=round({node.span.text}), or "
            scope.diagnostics.add(
                "ramp-not-whole",
                f"the {axis} of stage {number + 1} of this ramp is {'irrational' if rise is None else value}",
                node.span,
                help=f"write {rounding}other ends or another curve",
            )
            return None
        values.append(value)
    return values


def _ends(draft: AxisDraft, scope: Scope) -> tuple[Fraction, Fraction, bool] | None:
    """Where the ramp begins and ends, and whether between them only whole numbers are sizes."""
    size, node = draft.read.size, draft.size.value
    if isinstance(size, Probability):
        return size.start, size.start if size.stop is None else size.stop, False
    assert isinstance(size, Varying)
    if size.start.is_count == size.stop.is_count:
        return size.start.value, size.stop.value, size.start.is_count
    scope.diagnostics.add(
        "count-and-share",
        f"{node.span.text} runs between a count and a share, and a ramp has no sizes between them",
        node.span,
        help="write both as shares (`all` for the whole), or both as counts",
    )
    return None
