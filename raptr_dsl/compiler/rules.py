"""What a stage does along each axis that it names: its size, the settings in force and its own (rule 8)."""

from typing import NamedTuple

from raptr_dsl.axes import AXES
from raptr_dsl.compiler.attributes import ATTRIBUTES
from raptr_dsl.compiler.effects import refuse_for_full_axes, refuse_unfinished, refuse_without_effect
from raptr_dsl.compiler.gather import Given
from raptr_dsl.compiler.scope import Scope
from raptr_dsl.compiler.settings import Fields, Setting, Settings, axes_that_have, put
from raptr_dsl.compiler.sizes import ReadSize, size_of
from raptr_dsl.diagnostics import Label
from raptr_dsl.ir.schedule import AxisRule, Drawn, Exactly, Probability
from raptr_dsl.laws import Law
from raptr_dsl.laws.fixed import Fixed
from raptr_dsl.syntax import ast

LAW = Fixed()
"""How units are chosen where nothing says how."""

_BY_FIELD = {attribute.field: attribute for attribute in ATTRIBUTES.values() if attribute.field}


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
        return _drafts(given, reads, settings, scope)
    if refuse_unfinished(given, scope):
        return None
    # An axis whose size could not be read counts as thinned, lest one mistake is reported twice.
    thinned = [axis for axis, read in reads.items() if read is None or read.size is not None or read.parametric]
    refuse_for_full_axes(given, thinned, scope)
    written = _written(given, thinned, scope)
    if written is None:
        return None
    joined = {axis: {**settings[axis], **written.get(axis, {})} for axis in reads}
    drafts = _drafts(given, reads, joined, scope)
    if drafts is not None:
        rules = {axis: draft.rule for axis, draft in drafts.items() if draft.rule is not None}
        refuse_without_effect(given, rules, joined, scope)
    return drafts


def _written(given: Given, thinned: list[str], scope: Scope) -> dict[str, dict[str, Setting]] | None:
    """The settings that the stage itself writes, by axis; None if some could not be read."""
    written: dict[str, dict[str, Setting]] = {}
    good = True
    for attribute in given.bare.values():
        for axis in axes_that_have(attribute, thinned):
            if (axis, attribute.name.text) not in given.own:
                good &= put(written.setdefault(axis, {}), attribute, AXES[axis], scope)
    for (axis, _), attribute in given.own.items():
        if axis in thinned:
            good &= put(written.setdefault(axis, {}), attribute, AXES[axis], scope)
    return written if good else None


def _drafts(
    given: Given, reads: dict[str, ReadSize | None], settings: Settings, scope: Scope
) -> dict[str, AxisDraft] | None:
    drafts: dict[str, AxisDraft] = {}
    for axis, read in reads.items():
        draft = read and _draft(read, given.sizes[axis], settings[axis], scope)
        if draft is not None:
            drafts[axis] = draft
    return drafts if len(drafts) == len(reads) else None


def _draft(read: ReadSize, size: ast.Attribute, fields: Fields, scope: Scope) -> AxisDraft | None:
    if read.size is None:
        return AxisDraft(None, read, size, fields)
    values = {field: setting.value for field, setting in fields.items()}
    law = values.setdefault("law", LAW)
    if law.exact and not _has_exact_size(read, law, size, fields, scope):
        return None
    for field in fields:
        if field in _BY_FIELD and _BY_FIELD[field].without_effect(law, read.size):
            del values[field]  # so that stages of one meaning are equal, whatever the defaults around them
    return AxisDraft(AxisRule(size=read.size, **values), read, size, fields)


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
