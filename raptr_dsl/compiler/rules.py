"""What a stage does along each axis that it names: its size, the settings in force and its own (rule 8)."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NamedTuple

from raptr_dsl.axes import AXES, Axis
from raptr_dsl.compiler.attributes import ATTRIBUTES
from raptr_dsl.compiler.effects import refuse_for_full_axes, refuse_without_effect, speaks_at_full
from raptr_dsl.compiler.gather import Given
from raptr_dsl.compiler.scope import Scope
from raptr_dsl.compiler.settings import Fields, Setting, Settings, axes_that_have, put
from raptr_dsl.compiler.sizes import ReadSize, size_of
from raptr_dsl.diagnostics import Label
from raptr_dsl.ir.schedule import Amount, AxisRule, Drawn, Exactly, Probability
from raptr_dsl.laws import LAWS, Law
from raptr_dsl.laws.fixed import Fixed
from raptr_dsl.syntax import ast

LAW = Fixed()
"""How units are chosen where nothing says how."""

FULL = Exactly(amount=Amount(value=Fraction(1)))

_BY_FIELD = {attribute.target: attribute for attribute in ATTRIBUTES.values()}
_AT_FULL = [attribute for attribute in ATTRIBUTES.values() if attribute.at_full]


class AxisDraft(NamedTuple):
    """What a stage does along one axis, with where it says so. `rule` is None where the axis runs in full."""

    rule: AxisRule | None
    read: ReadSize
    size: ast.Attribute
    fields: Fields


def axes_of(given: Given, settings: Settings, scope: Scope) -> dict[str, AxisDraft] | None:
    """What a stage does along the axes it names, or None with what is wrong recorded."""
    reads = {axis: size_of(attribute.value, AXES[axis], scope) for axis, attribute in given.sizes.items()}
    if not (given.bare or given.own):
        return _drafts(given.sizes, reads, settings, scope)
    # An axis whose size could not be read counts as thinned, lest one mistake is reported twice.
    thinned = [axis for axis, read in reads.items() if read is None or read.size is not None or read.parametric]
    refuse_for_full_axes(given, thinned, settings, scope)
    written = _written(given, thinned, settings, scope)
    if written is None:
        return None
    joined = {axis: {**settings[axis], **written[axis]} if axis in written else settings[axis] for axis in AXES}
    drafts = _drafts(given.sizes, reads, joined, scope)
    if drafts is not None:
        rules = {axis: draft.rule for axis, draft in drafts.items() if draft.rule is not None}
        refuse_without_effect(given, rules, joined, scope)
    return drafts


def _written(
    given: Given, thinned: list[str], settings: Settings, scope: Scope
) -> dict[str, dict[str, Setting]] | None:
    """The settings that the stage itself writes, by axis; None if some could not be read."""
    written: dict[str, dict[str, Setting]] = {}
    good = True
    for name, attribute in given.bare.items():
        spoken = [axis for axis in AXES if axis in thinned or speaks_at_full(name, axis, given, settings)]
        for axis in axes_that_have(attribute, spoken) if spoken else ():
            if (axis, name) not in given.own:
                good &= put(written.setdefault(axis, {}), attribute, AXES[axis], scope)
    for (axis, name), attribute in given.own.items():
        if axis in thinned or speaks_at_full(name, axis, given, settings):
            good &= put(written.setdefault(axis, {}), attribute, AXES[axis], scope)
    return written if good else None


def _drafts(
    sizes: Mapping[str, ast.Attribute], reads: dict[str, ReadSize | None], settings: Settings, scope: Scope
) -> dict[str, AxisDraft] | None:
    drafts: dict[str, AxisDraft] = {}
    for axis, read in reads.items():
        draft = read and _draft(read, sizes[axis], settings[axis], scope)
        if draft is not None:
            drafts[axis] = draft
    if len(drafts) < len(reads):
        return None
    for axis in AXES:
        fields = settings[axis]
        if fields and axis not in reads and _is_said_at_full(fields):
            first = next(fields[attribute.target] for attribute in _AT_FULL if attribute.target in fields)
            drafts[axis] = AxisDraft(full_rule(_values(fields)), ReadSize(None), first.attribute, fields)
    return drafts


def _default_law(axis: Axis) -> Law:
    return LAWS[axis.laws[0]].model_validate({}) if axis.laws else LAW


def _values(fields: Fields) -> dict[str, Any]:
    return {field: setting.value for field, setting in fields.items()}


def _is_said_at_full(fields: Fields) -> bool:
    return any(name in fields for attribute in _AT_FULL for name in attribute.at_full)


def full_rule(values: Mapping[str, Any]) -> AxisRule | None:
    """The rule of an axis that runs in full: what is still said of it there; None if nothing is."""
    said = {
        attribute.target: values[attribute.target]
        for attribute in _AT_FULL
        if attribute.target in values and any(_is_set(values, name) for name in attribute.at_full)
    }
    return AxisRule(size=FULL, law=LAW, **said) if said else None


def _is_set(values: Mapping[str, Any], name: str) -> bool:
    return values.get(name, AxisRule.model_fields[name].default) != AxisRule.model_fields[name].default


def _draft(read: ReadSize, size: ast.Attribute, fields: Fields, scope: Scope) -> AxisDraft | None:
    if read.size is None:
        return AxisDraft(full_rule(_values(fields)) if _is_said_at_full(fields) else None, read, size, fields)
    values = _values(fields)
    law = values.setdefault("law", _default_law(AXES[size.name.text]))
    if law.exact and not _has_exact_size(read, law, size, fields, scope):
        return None
    rule = AxisRule(size=read.size, **values)
    idle = [field for field in fields if field in _BY_FIELD and _BY_FIELD[field].without_effect(rule)]
    if idle:  # left out, so that stages of one meaning are equal, whatever the defaults around them
        rule = AxisRule(size=read.size, **{field: value for field, value in values.items() if field not in idle})
    return AxisDraft(rule, read, size, fields)


def _has_exact_size(read: ReadSize, law: Law, size: ast.Attribute, fields: Fields, scope: Scope) -> bool:
    """Whether a law that draws exactly k units can draw such a size, whatever the model (rule 6)."""
    said = fields.get("law")
    if isinstance(read.size, Probability):
        scope.diagnostics.add(
            "size-for-law",
            f"a probability is no exact size, which sample={law.law} needs",
            size.value.span,
            related=[Label(said.attribute.span, "the law is set here")] if said else (),
            help="write sample=bernoulli, or a size such as 6/12",
        )
        return False
    if isinstance(read.size, Exactly | Drawn) and read.can_be_none:
        scope.diagnostics.add(
            "size-range",
            f"{size.span.text} leaves no unit of {size.name.text} to run",
            size.value.span,
            help=f"write at least {size.name.text}=1",
        )
        return False
    return True
