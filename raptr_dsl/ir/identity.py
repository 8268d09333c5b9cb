"""What makes two plans the same: their flat rules, no names, figures or words (rules 41, 42)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from hashlib import sha256
from typing import TYPE_CHECKING, Any, TypeVar

from raptr_dsl.axes import AXES
from raptr_dsl.ir.bound import Border, BoundDraw, BoundRule, BoundStage, changes_state
from raptr_dsl.ir.schedule import Profile

if TYPE_CHECKING:
    from raptr_dsl.ir.model import ModelShape
    from raptr_dsl.ir.plan import Plan


def canonical_json(content: Any) -> bytes:
    """One text for one content: sorted keys, no spaces, ASCII. There are no floats in what is hashed."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def hash_of(content: Any) -> str:
    """The SHA-256 of a JSON content, in hexadecimal."""
    return sha256(canonical_json(content)).hexdigest()


def digest(plan: Plan) -> str:
    """The hash of what a plan means: stream, seed, shape, horizon and flat rules (rule 41)."""
    return hash_of(
        {
            "rng": plan.rng,
            "seed": plan.seed,
            "shape": plan.shape.model_dump(mode="json"),
            "steps": plan.steps,
            "stages": [
                stage.model_dump(mode="json", exclude={"name", "duration"})
                for stage in flat_stages(plan.stages, plan.shape)
            ],
        }
    )


def flat_stages(stages: Sequence[BoundStage], shape: ModelShape, stop: int | None = None) -> tuple[BoundStage, ...]:
    """The stages of the steps before `stop`, nameless and each rule in one form; equal neighbours are one stage.

    A rule that runs everything is left out. A draw that lasts the whole stage is `every=None`, and 1 in a stage of
    one step. Stages are kept apart where something is anchored to where they begin or end.
    """
    flat: list[BoundStage] = []
    for stage in stages:
        end = stage.stop if stop is None else min(stage.stop, stop)
        if end <= stage.start:
            break
        axes = dict(_flat_rules(stage, end - stage.start, shape))
        start = stage.start
        mine = {**stage.attributes(), "axes": axes, "rewarm": stage.rewarm}
        if flat and not stage.rewarm and not any(_is_anchored(rule) for rule in axes.values()):
            before = flat[-1]
            if before.axes == axes and before.attributes() == stage.attributes():
                start, mine["rewarm"] = flat.pop().start, before.rewarm
        flat.append(BoundStage(start=start, stop=end, duration=Fraction(end - start), **mine))
    return tuple(flat)


def _flat_rules(stage: BoundStage, steps: int, shape: ModelShape) -> Iterator[tuple[str, BoundRule]]:
    for name, rule in sorted(stage.axes.items()):
        flat = _flat(rule, steps)
        full = 1 if rule.measure == "probability" else AXES[name].space(shape).units
        if all(border.value == full for border in flat.sizes) and not flat.choices and not changes_state(rule):
            continue
        yield name, flat.model_copy(update={"train": rule.train and _flat(rule.train, steps)}) if rule.train else flat


Drawn = TypeVar("Drawn", bound=BoundDraw)


def _flat(draw: Drawn, steps: int) -> Drawn:
    """What is drawn in the first `steps` steps of a stage, in one form."""
    sizes, choices = tuple(border for border in draw.sizes if border.offset < steps), draw.choices
    if len(set(choices)) == 1:
        sizes, choices = (Border(offset=0, value=Fraction(choices[0])),), ()
    every = draw.every
    if steps == 1:
        every = 1
    elif every is not None and every >= steps:
        every = None
    return draw.model_copy(update={"sizes": sizes, "choices": choices, "every": every})


def _is_anchored(rule: BoundRule) -> bool:
    """Whether a rule in its flat form draws otherwise where its stage begins or ends elsewhere."""
    draws = (rule, rule.train) if rule.train else (rule,)
    return any(one.law.anchored or one.every != 1 or len(one.sizes) > 1 for one in draws)


@dataclass(frozen=True, slots=True)
class Difference:
    """The first thing in which two plans are not the same.

    Attributes:
        what: `seed`, `shape.layers`, `steps`, `depth.law`, `end` of a stage, …
        mine, theirs: its value in either plan, as text.
        stage: the number of the first plan's stage, from 0, and its name; None where no stage is to blame.
        step: the first step that is not the same.
    """

    what: str
    mine: str
    theirs: str
    stage: int | None = None
    name: str | None = None
    step: int = 0

    def __str__(self) -> str:
        values = f"{self.what} is {self.mine} in one plan and {self.theirs} in the other"
        if self.stage is None:
            return values
        title = f"stage {self.stage + 1}" + (f" ({self.name})" if self.name else "")
        return f"{title}, from step {self.step:,} on: {values}"


def first_difference(mine: Plan, theirs: Plan, before: int | None = None) -> Difference | None:
    """In what two plans differ first, or in the steps before `before` alone; None if they are the same there."""
    if before is not None and before <= 0:
        return None
    for what in ("rng", "seed"):
        if getattr(mine, what) != getattr(theirs, what):
            return Difference(what, str(getattr(mine, what)), str(getattr(theirs, what)))
    for word in type(mine.shape).model_fields:
        if getattr(mine.shape, word) != getattr(theirs.shape, word):
            return Difference(f"shape.{word}", str(getattr(mine.shape, word)), str(getattr(theirs.shape, word)))
    horizon = before or max(mine.steps, theirs.steps)
    if min(mine.steps, horizon) != min(theirs.steps, horizon):
        return Difference("steps", f"{mine.steps:,}", f"{theirs.steps:,}", step=min(mine.steps, theirs.steps))
    ours, others = flat_stages(mine.stages, mine.shape, before), flat_stages(theirs.stages, theirs.shape, before)
    for one, other in zip(ours, others, strict=False):  # both tile the same steps, so the shorter ends at the longer's
        if one != other:
            return _stage_difference(mine, one, other)
    return None


def _stage_difference(plan: Plan, one: BoundStage, other: BoundStage) -> Difference:
    for axis in sorted({*one.axes, *other.axes}):
        if one.axes.get(axis) == other.axes.get(axis):
            continue
        what, mine, theirs = _rule_difference(axis, one.axes.get(axis), other.axes.get(axis))
        stage = plan.stage_index(one.start)
        return Difference(what, mine, theirs, stage, plan.stages[stage].name, one.start)
    for word in ("freeze", "rewarm"):
        if getattr(one, word) != getattr(other, word):
            stage = plan.stage_index(one.start)
            mine, theirs = (json.dumps(getattr(which, word)) for which in (one, other))
            return Difference(word, mine, theirs, stage, plan.stages[stage].name, one.start)
    # Equal rules that hold for different lengths: what follows the shorter one is what differs.
    step = min(one.stop, other.stop)
    stage = plan.stage_index(step - 1)
    return Difference("its end", f"{one.stop:,}", f"{other.stop:,}", stage, plan.stages[stage].name, step)


def _rule_difference(axis: str, one: BoundRule | None, other: BoundRule | None) -> tuple[str, str, str]:
    if one is None or other is None:
        return axis, "all" if one is None else _size_text(one), "all" if other is None else _size_text(other)
    for word in ("sizes", "choices", "measure"):
        if getattr(one, word) != getattr(other, word):
            return axis, _size_text(one), _size_text(other)
    mine, theirs = one.model_dump(mode="json"), other.model_dump(mode="json")
    word = next(word for word in BoundRule.model_fields if getattr(one, word) != getattr(other, word))
    return f"{axis}.{word}", _text(mine, word), _text(theirs, word)


def _size_text(rule: BoundRule) -> str:
    if rule.choices:
        return f"one of {', '.join(map(str, rule.choices))}"
    first, last = rule.sizes[0], rule.sizes[-1]
    unit = "probability" if rule.measure == "probability" else "unit" if last.value == 1 else "units"
    if len(rule.sizes) == 1:
        return f"{first.value} {unit}"
    borders = f"{len(rule.sizes)} levels, the second from step {rule.sizes[1].offset:,} of the stage"
    return f"{first.value} to {last.value} {unit} in {borders}"


def _text(rule: dict[str, Any], word: str) -> str:
    """An attribute of a rule as it is written, or its default."""
    value = rule.get(word, BoundRule.model_fields[word].default)
    if value is None:
        return "stage" if word == "every" else "none"
    if isinstance(value, dict) and set(value) == {"law"}:
        return str(value["law"])
    if isinstance(value, Profile):
        return value.kind
    return value if isinstance(value, str) else json.dumps(value)
