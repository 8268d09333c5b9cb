"""Rule 8: an attribute that can have no effect is an error. (A `default` may have none here or there.)"""

from collections.abc import Mapping

from raptr_dsl.axes import AXES
from raptr_dsl.compiler.attributes import ATTRIBUTES
from raptr_dsl.compiler.gather import Given
from raptr_dsl.compiler.scope import Scope
from raptr_dsl.compiler.settings import Fields, Settings
from raptr_dsl.diagnostics import Label
from raptr_dsl.ir.schedule import AxisRule
from raptr_dsl.syntax import ast


def speaks_at_full(name: str, axis: str, given: Given, settings: Settings) -> bool:
    """Whether an attribute has an effect on an axis that runs in full, beside what else is set there."""
    others = ATTRIBUTES[name].at_full
    if not others or name in AXES[axis].lacks:
        return False
    return any(
        other in given.bare or (axis, other) in given.own or other in settings[axis]
        for other in others
        if other not in AXES[axis].lacks
    )


def refuse_for_full_axes(given: Given, thinned: list[str], settings: Settings, scope: Scope) -> None:
    """Rule 8: an attribute of an axis that the stage says nothing of can have no effect.

    Where the stage names the axis at full size (`depth=12/12 scale=sqrt`, the last of a row of like stages, or a
    parameter at its bound) the attribute says what would hold at another size, and nothing is wrong.
    """
    for (axis, name), attribute in given.own.items():
        if axis in thinned or axis in given.sizes or speaks_at_full(name, axis, given, settings):
            continue
        scope.diagnostics.add(
            "no-effect",
            f"{axis}.{name}= has no effect: this stage runs {axis} in full",
            attribute.span,
            help=f"remove it, or thin the axis: {axis}=6/12",
        )
    if not thinned and (given.sizes or given.refused):
        return
    for name, attribute in given.bare.items():
        if any(speaks_at_full(name, axis, given, settings) for axis in AXES):
            continue
        if thinned and not all(name in AXES[axis].lacks for axis in thinned):
            continue
        if thinned:
            verb = "has" if len(thinned) == 1 else "have"
            fact = f"{name}= has no effect: {' and '.join(thinned)} {verb} no such attribute"
            scope.diagnostics.add("no-effect", fact, attribute.span, help="remove it")
            continue
        scope.diagnostics.add(
            "no-effect",
            f"{name}= has no effect: this stage thins no axis",
            attribute.span,
            help="remove it, or thin an axis: depth=6/12",
        )


def refuse_without_effect(given: Given, rules: Mapping[str, AxisRule], settings: Settings, scope: Scope) -> None:
    """Rule 8, of attributes that the law or the size leaves nothing to say, or that others override."""
    for (axis, name), attribute in given.own.items():
        rule = rules.get(axis)
        reason = rule and ATTRIBUTES[name].without_effect(rule)
        if reason:
            _refuse(attribute, reason, settings[axis], scope)
    for name, attribute in given.bare.items():
        overriding = [given.own[axis, name] for axis in rules if (axis, name) in given.own]
        if rules and len(overriding) == len(rules):
            scope.diagnostics.add(
                "no-effect",
                f"{name}= has no effect: every axis that this stage thins says its own",
                attribute.span,
                related=[Label(own.span, "set here") for own in overriding],
                help="remove it",
            )
            continue
        reasons = {
            axis: ATTRIBUTES[name].without_effect(rule) for axis, rule in rules.items() if (axis, name) not in given.own
        }
        if reasons and all(reasons.values()):
            axis, reason = next(iter(reasons.items()))
            _refuse(attribute, reason, settings[axis], scope)


def _refuse(attribute: ast.Attribute, reason: str, fields: Fields, scope: Scope) -> None:
    law = fields.get("law") if "sample=" in reason else None
    scope.diagnostics.add(
        "no-effect",
        f"{attribute.name.text}= has no effect: {reason}",
        attribute.span,
        related=[Label(law.attribute.span, "the law is set here")] if law else (),
        help="remove it, or choose another law" if "sample=" in reason else "remove it",
    )
