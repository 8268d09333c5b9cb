"""What has to hold in every plan, so that nothing read from a file is trusted, and no draw can fail."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING

from raptr_dsl.axes import AXES, BLOCKS, Space
from raptr_dsl.flops.backward import unsure_block
from raptr_dsl.ir.bound import BoundDraw, BoundRule, BoundStage, Growth, changes_state
from raptr_dsl.occupancy import fewest_units
from raptr_dsl.sampling import pools
from raptr_dsl.scales import SCALES

if TYPE_CHECKING:
    from raptr_dsl.ir.model import ModelShape
    from raptr_dsl.ir.plan import Plan

MOST_STAGES = 20_000
MOST_UNITS = 2**16
"""Units of one site: a unit's number has the low 16 bits of its rank key (rule 21)."""

MOST_CHOICES = 2**16
MOST_WORDS = 2**64
"""Words of one axis in the whole run, by four: the counter of the stream has 64 bits (rule 19)."""


def plan_problems(plan: Plan) -> Iterator[str]:
    """Everything that is wrong with a plan, each with the place it stands in."""
    if not plan.stages or len(plan.stages) > MOST_STAGES:
        yield f"stages: there are {len(plan.stages):,}, not between 1 and {MOST_STAGES:,}"
        return
    yield from _tiling_problems(plan)
    for name in sorted({name for stage in plan.stages for name in stage.axes}):
        yield from _axis_problems(plan, name)
    for place, stage in enumerate(plan.stages):
        for name, rule in stage.axes.items():
            if name not in AXES or AXES[name].space(plan.shape).units > MOST_UNITS:
                continue
            space, fewest = AXES[name].space(plan.shape), AXES[name].fewest(plan.shape)
            yield from (f"stages[{place}].axes.{name}{text}" for text in _rule_problems(rule, space, stage, fewest))
            laws = AXES[name].laws
            if laws is not None and rule.law.law not in laws:
                known = f"{', '.join(laws)}, the laws of {name}"
                yield f"stages[{place}].axes.{name}.law: {rule.law.law} is none of {known}"
            if not AXES[name].units_are_blocks and changes_state(rule):
                yield f"stages[{place}].axes.{name}: only blocks are trained apart, and only blocks grow"
            yield from (f"stages[{place}].axes.{name}.full: {text}" for text in _full_problems(rule, name, plan.shape))
    yield from _birth_problems(plan)
    yield from _unsure_problems(plan)
    if not plan.partial:
        yield from _end_problems(plan)


def _tiling_problems(plan: Plan) -> Iterator[str]:
    end = 0
    for place, stage in enumerate(plan.stages):
        if stage.start != end:
            yield f"stages[{place}].start: {stage.start:,} is not {end:,}, where the stage before it ends"
        if stage.stop <= stage.start:
            yield f"stages[{place}].stop: {stage.stop:,} is not after its start, {stage.start:,}"
        if stage.duration <= 0:
            yield f"stages[{place}].duration: {stage.duration} is not positive"
        end = stage.stop
    if end != plan.steps:
        yield f"stages: they end at step {end:,}, not at step {plan.steps:,}"


def _axis_problems(plan: Plan, name: str) -> Iterator[str]:
    if name not in AXES:
        yield f"axes: there is no axis {name!r}"
        return
    if misfit := AXES[name].misfit(plan.shape):
        yield f"axes.{name}: {misfit}"
    space = AXES[name].space(plan.shape)
    if space.units > MOST_UNITS:
        yield f"axes.{name}: {space.units:,} units a site are more than {MOST_UNITS:,}"
    elif lacks_words(plan.steps, space):
        yield f"axes.{name}: {plan.steps:,} steps of {space.sites:,} × {space.units:,} units are too many to number"


def lacks_words(steps: int, space: Space) -> bool:
    """Whether the stream is too short for the masks of so many steps along an axis."""
    return steps * (space.sites * space.units // 4 + 1) >= MOST_WORDS


def _rule_problems(rule: BoundRule, space: Space, stage: BoundStage, fewest: int) -> Iterator[str]:
    """What is wrong with a rule, each beginning with `.word: `."""
    if rule.scale not in SCALES:
        yield f".scale: there is no scale {rule.scale!r}"
    yield from _draw_problems(rule, space, stage, fewest)
    if rule.train:
        yield from (f".train{problem}" for problem in _draw_problems(rule.train, space, stage))
    if rule.born is not None and not 1 <= rule.born < space.units:
        yield f".born: {rule.born} is not some of {space.units} units"
    if rule.growth:
        yield from _growth_problems(rule.growth, space.units if rule.born is None else rule.born)


def _full_problems(rule: BoundRule, axis: str, shape: ModelShape) -> Iterator[str]:
    if rule.full and not AXES[axis].per_block:
        yield f"no block has units of {axis} of its own"
    if any(one >= other for one, other in pairwise(rule.full)):
        yield "the blocks are not in ascending order, each once"
    if any(not 0 <= block < shape.layers for block in rule.full):
        yield f"the blocks are numbered 0 to {shape.layers - 1}"
    if len(rule.full) >= shape.layers:
        yield "no block is left that is thinned"


def _growth_problems(growth: Growth, born: int) -> Iterator[str]:
    """A map of copies that is none: units are inserted in one place, the others stay in order."""
    sources, new = growth.sources, growth.new
    if len(sources) != born or not 0 <= growth.at <= growth.before < len(sources):
        yield f".growth: from {growth.before} units to {len(sources)} of {born}, new ones from {growth.at} on"
        return
    if any(not -1 <= source < growth.before for source in sources):
        yield f".growth: the sources are numbered -1 to {growth.before - 1}"
    if any(sources[unit] != unit - len(new) * (unit >= new.stop) for unit in range(len(sources)) if unit not in new):
        yield ".growth: a unit that is not new has another's values"


def _draw_problems(rule: BoundDraw, space: Space, stage: BoundStage, fewest: int = 0) -> Iterator[str]:
    """What is wrong with how units are chosen; the law is asked only if all else is right."""
    problems = [*_word_problems(rule, space), *_size_problems(rule, space, stage)]
    yield from problems
    if not problems:
        drawn = (problem for pool in pools(rule, space) for problem in rule.law.problems(pool))
        problems = [f".law: {problem}" for problem in dict.fromkeys(drawn)]
        yield from problems
        if not problems and fewest_units(rule, space) < fewest:
            yield f".sizes: they can leave fewer units than the {fewest} that the model needs"


def _word_problems(rule: BoundDraw, space: Space) -> Iterator[str]:
    if any(one >= other for one, other in pairwise(rule.keep)):
        yield ".keep: the units are not in ascending order, each once"
    if any(not 0 <= unit < space.units for unit in rule.keep):
        yield f".keep: the units are numbered 0 to {space.units - 1}"
    if rule.every is not None and rule.every < 1:
        yield f".every: a draw cannot last {rule.every} steps"
    profile = rule.profile
    if profile.kind == "list" and len(profile.weights) != space.units:
        yield f".profile: there are {len(profile.weights)} weights for {space.units} units"
    if (profile.kind == "curve") != (profile.curve is not None) or (profile.kind == "list") != bool(profile.weights):
        yield ".profile: it has not what its kind needs, or more"


def _size_problems(rule: BoundDraw, space: Space, stage: BoundStage) -> Iterator[str]:
    if bool(rule.sizes) == bool(rule.choices):
        yield ".sizes: a rule has either sizes or choices"
        return
    if rule.choices:
        yield from _choice_problems(rule, space)
        return
    every = rule.every or stage.steps
    if rule.sizes[0].offset:
        yield ".sizes: the first does not begin with the stage"
    for one, other in pairwise(rule.sizes):
        if one.offset >= other.offset or one.value == other.value:
            yield f".sizes: the one from step {other.offset:,} on does not follow the one before it"
    for border in rule.sizes:
        if border.offset and (border.offset >= stage.steps or border.offset % every):
            yield f".sizes: no draw begins at step {border.offset:,} of the stage"
        yield from _value_problems(rule, space, border.value)


def _choice_problems(rule: BoundDraw, space: Space) -> Iterator[str]:
    if rule.measure != "units" or rule.law.anchored:
        yield f".choices: sizes cannot be drawn under {rule.law.law}"
    if len(rule.choices) > MOST_CHOICES:
        yield f".choices: {len(rule.choices):,} are more than {MOST_CHOICES:,}"
        return
    for size in dict.fromkeys(rule.choices):
        yield from _value_problems(rule, space, Fraction(size), "choices")


def _value_problems(rule: BoundDraw, space: Space, value: Fraction, where: str = "sizes") -> Iterator[str]:
    if rule.measure == "probability":
        if rule.law.exact:
            yield f".{where}: {rule.law.law} takes a size, not a probability"
        if not 0 <= value <= 1:
            yield f".{where}: {value} is no probability"
        return
    if not max(1, len(rule.keep)) <= value <= space.units:
        yield f".{where}: {value} is not between {max(1, len(rule.keep))} and {space.units} units"
    if rule.law.exact and value.denominator != 1:
        yield f".{where}: {value} is not a whole number of units"


def _birth_problems(plan: Plan) -> Iterator[str]:
    """A stage grows from what was born in the stage before it, and nothing runs that is not born."""
    born = 0
    for place, stage in enumerate(plan.stages):
        rule, before = stage.axes.get(BLOCKS.name), born
        born = plan.shape.layers if rule is None or rule.born is None else rule.born
        if rule and rule.growth and rule.growth.before != before:
            yield f"stages[{place}].axes.{BLOCKS.name}.growth: from {rule.growth.before} units, and {before} are born"
        if rule and rule.born is not None and not _is_within(rule, rule.born):
            yield f"stages[{place}].axes.{BLOCKS.name}.born: more can run than the first {rule.born}"


def _unsure_problems(plan: Plan) -> Iterator[str]:
    """A block that costs more than the others surely runs and surely trains, or surely does not."""
    for place, stage in enumerate(plan.stages):
        if not any(rule.full for rule in stage.axes.values()) or not _can_be_counted(stage, plan.shape):
            continue
        if unsure := unsure_block(stage, plan.shape):
            axis, block, what = unsure
            yield f"stages[{place}].axes.{axis}.full: whether block {block} {what} is drawn"


def _can_be_counted(stage: BoundStage, shape: ModelShape) -> bool:
    """Whether nothing else is wrong with what a stage draws."""
    return all(
        name in AXES
        and not any(_rule_problems(rule, AXES[name].space(shape), stage, 0))
        and not any(_full_problems(rule, name, shape))
        for name, rule in stage.axes.items()
    )


def _is_within(rule: BoundRule, born: int) -> bool:
    """Whether the units that can run are surely among the first ones that are born."""
    is_prefix = rule.law.law == "prefix" and all(unit < born for unit in rule.keep)
    return is_prefix and all(border.value <= born for border in rule.sizes) and not rule.choices


def _end_problems(plan: Plan) -> Iterator[str]:
    """Rule 14: the last step runs the whole network, unless the plan says that it need not."""
    for name, rule in plan.stages[-1].axes.items():
        if name not in AXES:
            continue
        full = Fraction(1) if rule.measure == "probability" else Fraction(AXES[name].space(plan.shape).units)
        last = rule.choices or (rule.sizes[-1].value if rule.sizes else full,)
        if any(size != full for size in last):
            yield f"stages[{len(plan.stages) - 1}].axes.{name}: the last step is not the full network"
