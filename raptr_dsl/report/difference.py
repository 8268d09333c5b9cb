"""In what two plans differ in meaning: names, comments, layout and how a file is cut into parts do not count."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from fractions import Fraction
from typing import Any

from raptr_dsl.axes import AXES
from raptr_dsl.guarantees import guarantee
from raptr_dsl.ir.base import Frozen
from raptr_dsl.ir.bound import BoundDraw, BoundRule, BoundStage, Growth
from raptr_dsl.ir.identity import flat_stages
from raptr_dsl.ir.plan import Plan
from raptr_dsl.ir.schedule import Profile
from raptr_dsl.laws import Law
from raptr_dsl.report.layout import stage_label, thinned_axes
from raptr_dsl.report.summary import growth_text, law_text, percent, rule_text, size_text, trained_text
from raptr_dsl.tally import trained_steps
from raptr_dsl.wording import plural

MOST_MASKS = 2**27
"""Entries of masks that are drawn to count coverage: about a second."""

ALIGNED = 2000
"""Stages that are aligned by what they have in common; more are compared one by one, in order."""

_PLACE = {"name", "start", "stop", "duration"}
_SIZE = ("sizes", "choices", "measure")


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is not the same.

    Attributes:
        where: `schedule`, `model`, `stage six`, `cost`, `requirements`. what: `seed`, `depth.scale`, …
        mine, theirs: its value in either plan, in words; "" where one has nothing of the kind.
    """

    where: str
    what: str
    mine: str
    theirs: str


def differences(
    mine: Plan, theirs: Plan, my_requirements: Mapping[str, str], their_requirements: Mapping[str, str]
) -> list[Change]:
    """Everything in which two schedules do not mean the same, in the order of a reader's questions.

    Args:
        my_requirements, their_requirements: each requirement in normalised words, with what it was found to be.
    """
    found = [*_of_run(mine, theirs), *_of_stages(mine, theirs)]
    if mine.digest != theirs.digest:
        found += _of_costs(mine, theirs)
    found += _of_requirements(my_requirements, their_requirements)
    if mine.digest != theirs.digest:
        found.append(Change("plan", "digest", mine.digest[:16], theirs.digest[:16]))
    return found


def _of_run(mine: Plan, theirs: Plan) -> Iterator[Change]:
    for what in ("steps", "seed", "rng"):
        one, other = getattr(mine, what), getattr(theirs, what)
        if one != other:
            yield Change("schedule", what, _number(one), _number(other))
    if mine.partial != theirs.partial:
        words = {True: "allowed", False: "no"}
        yield Change("schedule", "partial", words[mine.partial], words[theirs.partial])
    for word in type(mine.shape).model_fields:
        one, other = getattr(mine.shape, word), getattr(theirs.shape, word)
        if one != other:
            yield Change("model", word, _number(one), _number(other))


def _of_stages(mine: Plan, theirs: Plan) -> Iterator[Change]:
    ours, others = flat_stages(mine.stages, mine.shape), flat_stages(theirs.stages, theirs.shape)
    for one, other in _aligned(ours, others):
        if one is None or other is None:
            yield _unmatched(mine, theirs, one, other)
            continue
        where = f"stage {_label(mine, one)}"
        if one.steps != other.steps or Fraction(one.steps, mine.steps) != Fraction(other.steps, theirs.steps):
            yield Change(where, "steps", _length(mine, one), _length(theirs, other))
        for axis in AXES:
            yield from _of_rules(where, axis, (mine, one.axes.get(axis)), (theirs, other.axes.get(axis)))
        for word in sorted(BoundStage.model_fields.keys() - _PLACE - {"axes"}):
            if getattr(one, word) != getattr(other, word):
                yield Change(where, word, *_words(one, other, word))


Pairs = Iterator[tuple[BoundStage | None, BoundStage | None]]


def _aligned(ours: Sequence[BoundStage], others: Sequence[BoundStage]) -> Pairs:
    """Stages that belong together: the longest common runs of equal rules, what lies between them in order."""
    keys = [[stage.model_dump_json(exclude=_PLACE) for stage in side] for side in (ours, others)]
    if max(map(len, keys)) > ALIGNED:
        yield from _in_order(ours, others)
        return
    matcher = SequenceMatcher(None, keys[0], keys[1], autojunk=False)
    for _, start, stop, begin, end in matcher.get_opcodes():
        yield from _in_order(ours[start:stop], others[begin:end])


def _in_order(ours: Sequence[BoundStage], others: Sequence[BoundStage]) -> Pairs:
    both = min(len(ours), len(others))
    yield from zip(ours[:both], others[:both], strict=True)
    yield from ((one, None) for one in ours[both:])
    yield from ((None, other) for other in others[both:])


def _unmatched(mine: Plan, theirs: Plan, one: BoundStage | None, other: BoundStage | None) -> Change:
    plan, stage = (mine, one) if one is not None else (theirs, other)
    assert stage is not None
    rules = ", ".join(_rule(plan, axis, rule) for axis, rule in stage.axes.items()) or "full"
    text = f"{_length(plan, stage)}, {rules}"
    return Change(f"stage {_label(plan, stage)}", "", text if one is not None else "", "" if one is not None else text)


def _of_rules(
    where: str, axis: str, mine: tuple[Plan, BoundRule | None], theirs: tuple[Plan, BoundRule | None]
) -> Iterator[Change]:
    (plan, one), (another, other) = mine, theirs
    if one is None or other is None:
        if one is not other:
            yield Change(
                where, axis, *("all" if rule is None else _rule(of, axis, rule) for of, rule in (mine, theirs))
            )
        return
    if any(getattr(one, word) != getattr(other, word) for word in _SIZE):
        sizes = size_text(plan, axis, one), size_text(another, axis, other)
        yield Change(where, axis, *(sizes if sizes[0] != sizes[1] else map(_levels, (one, other))))
    for word in BoundRule.model_fields:
        if word not in _SIZE and getattr(one, word) != getattr(other, word):
            yield Change(where, f"{axis}.{word}", *_words(one, other, word))


def _of_costs(mine: Plan, theirs: Plan) -> Iterator[Change]:
    one, other = mine.flops(), theirs.flops()
    yield Change("cost", "blocks", *(f"{float(run.blocks):.4e}, {percent(run.ratio_blocks)}" for run in (one, other)))
    yield Change(
        "cost", "blocks and head", *(f"{float(run.total):.4e}, {percent(run.ratio_total)}" for run in (one, other))
    )
    for axis in dict.fromkeys([*thinned_axes(mine), *thinned_axes(theirs)]):
        if not AXES[axis].has_weights:
            continue  # nothing of the data is trained
        for what, ours, others in zip(("coverage", "gap"), trained(mine, axis), trained(theirs, axis), strict=True):
            if ours != others:
                yield Change("cost", f"{what}({axis})", ours, others)
    if mine.shapes != theirs.shapes:
        yield Change("cost", "shapes", f"{mine.shapes:,}", f"{theirs.shapes:,}")


def trained(plan: Plan, axis: str) -> tuple[str, str]:
    """Coverage and gap of an axis in words: by theorem if one gives them, else counted, or bounded if that is long."""
    sure = guarantee(plan.shape, plan.stages, axis)
    if sure is not None and sure.is_exact:
        return f"{plural(sure.least, 'step')}", f"at most {plural(sure.longest_gap, 'step')}"
    space = AXES[axis].space(plan.shape)
    if plan.steps * space.sites * space.units <= MOST_MASKS:
        counted = trained_steps(plan, axis)
        return (
            f"{plural(counted.least, 'step')}, {counted.proof}",
            f"{plural(counted.longest_gap, 'step')}, {counted.proof}",
        )
    if sure is None:
        return "not counted", "not counted"
    return f"at least {plural(sure.least, 'step')}", f"at most {plural(sure.longest_gap, 'step')}"


def _of_requirements(mine: Mapping[str, str], theirs: Mapping[str, str]) -> Iterator[Change]:
    for text in dict.fromkeys([*mine, *theirs]):
        one, other = mine.get(text, ""), theirs.get(text, "")
        if one != other:
            yield Change("requirements", text, one, other)


def _rule(plan: Plan, axis: str, rule: BoundRule) -> str:
    return f"{axis} {size_text(plan, axis, rule)} {rule_text(plan, axis, rule)}"


def _length(plan: Plan, stage: BoundStage) -> str:
    return f"{plural(stage.steps, 'step')}, {percent(Fraction(stage.steps, plan.steps))}"


def _label(plan: Plan, stage: BoundStage) -> str:
    """The name of a flat stage, or of the first of those that it is made of."""
    return stage_label(plan, plan.stage_index(stage.start))


def _levels(rule: BoundRule) -> str:
    """Sizes whose ends are those of others, by where the second and the last level begin."""
    if rule.choices:
        return "|".join(map(str, rule.choices))
    inner = [f"{border.offset:,}" for border in (*rule.sizes[1:2], *rule.sizes[2:][-1:])]
    return f"{len(rule.sizes)} levels, the second and last from {' and '.join(inner)} on" if inner else "one level"


def _words(one: Any, other: Any, word: str) -> tuple[str, str]:
    """The values of an attribute in words, in full where that does not tell them apart."""
    short = _value(one, word), _value(other, word)
    return short if short[0] != short[1] else (_in_full(getattr(one, word)), _in_full(getattr(other, word)))


def _value(holder: Any, word: str) -> str:
    value = getattr(holder, word)
    match value:
        case Law():
            return law_text(holder)
        case BoundDraw():
            return trained_text(value).removeprefix("train=")
        case Growth():
            return growth_text(value)
        case Profile():
            return value.kind
        case tuple():
            return ", ".join(map(str, value)) or "none"
        case None:
            return "stage" if word == "every" else "none"
        case _:
            return _number(value)


def _in_full(value: Any) -> str:
    return json.dumps(value.model_dump(mode="json")) if isinstance(value, Frozen) else str(value)


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
