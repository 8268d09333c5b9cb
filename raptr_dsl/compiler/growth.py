"""What a stage adds to the stages before it: units that are new, and what they are copied from (rules 33, 35)."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from raptr_dsl.axes import BLOCKS, Space
from raptr_dsl.compiler.origins import Origins
from raptr_dsl.diagnostics import Diagnostics
from raptr_dsl.flops.backward import marginals
from raptr_dsl.ir.bound import Border, BoundDraw, BoundRule, BoundStage, Growth
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.schedule import AxisRule, Grow, Schedule
from raptr_dsl.laws.fixed import Fixed
from raptr_dsl.laws.prefix import Prefix
from raptr_dsl.laws.ranked import Ranked
from raptr_dsl.occupancy import occupancy
from raptr_dsl.wording import plural

AXIS = BLOCKS.name


def with_growth(
    schedule: Schedule,
    stages: tuple[BoundStage, ...],
    numbers: Sequence[int],
    shape: ModelShape,
    origins: Origins,
    diagnostics: Diagnostics,
) -> tuple[BoundStage, ...] | None:
    """The stages with `grow=` and `train=new` bound; None with every reason recorded.

    Args:
        numbers: which stage of the schedule each is.
    """
    rules = [schedule.stages[number].axes.get(AXIS) for number in numbers]
    if not any(rule and (rule.grow != "none" or _is_new(rule)) for rule in rules):
        return stages
    grower = _Grower(BLOCKS.space(shape), origins, diagnostics)
    changed = [grower.stage(*each) for each in zip(stages, rules, numbers, strict=True)]
    if grower.failed:
        return None
    _warn_where_nothing_grows(changed, rules, numbers, origins, diagnostics)
    return _with_births(changed, shape.layers)


def _warn_where_nothing_grows(
    stages: Sequence[BoundStage],
    rules: Sequence[AxisRule | None],
    numbers: Sequence[int],
    origins: Origins,
    diagnostics: Diagnostics,
) -> None:
    """`grow=` after stages in which every block may run: a schedule meant to stack that does not."""
    grows = any(AXIS in stage.axes and stage.axes[AXIS].growth for stage in stages)
    said = [number for number, rule in zip(numbers, rules, strict=True) if rule and rule.grow != "none"]
    if grows or not said:
        return
    diagnostics.add(
        "no-effect",
        "nothing grows in this schedule: each block has run, or may have, before a stage that says grow=",
        origins.span(("stages", said[-1], "axes", AXIS, "grow")),
        help="new blocks are those that no stage before has: write sample=prefix on the stages that grow",
        severity="warning",
    )


def full_rule(units: int, **words: Any) -> BoundRule:
    """The rule of an axis that runs in full, with what is still said of it."""
    return BoundRule(law=Fixed(), sizes=(Border(offset=0, value=Fraction(units)),), **words)


def _is_new(rule: AxisRule) -> bool:
    return rule.train is not None and rule.train.law is None


class _Grower:
    """Goes through the stages in order, knowing which units have run."""

    def __init__(self, space: Space, origins: Origins, diagnostics: Diagnostics) -> None:
        self._units, self._space = space.units, space
        self._origins, self._diagnostics = origins, diagnostics
        self._seen: set[int] = set()
        self._size: int | None = None
        self.failed = False

    def stage(self, stage: BoundStage, said: AxisRule | None, number: int) -> BoundStage:
        bound = stage.axes.get(AXIS)
        size, on = _prefix_size(bound, self._units), self._can_run(bound)
        words: dict[str, Any] = {}
        if said and said.grow != "none" and self._seen and on - self._seen:
            words["growth"] = self._growth(said, size, number)
        if said and _is_new(said) and on & self._seen:
            words["train"] = self._new(on, words.get("growth"), number)
        self._seen |= on
        self._size = size
        if not any(words.values()):
            return stage
        rule = full_rule(self._units, **words) if bound is None else bound.model_copy(update=words)
        return stage.model_copy(update={"axes": {**stage.axes, AXIS: rule}})

    def _can_run(self, rule: BoundRule | None) -> set[int]:
        """The units that have a chance to run in some step of a stage."""
        if rule is None:
            return set(range(self._units))
        offsets = [border.offset for border in rule.sizes] or [0]
        chances = [marginals(occupancy(rule, self._space, offset), self._units) for offset in offsets]
        return {unit for unit in range(self._units) if any(chance[unit] for chance in chances)}

    def _growth(self, said: AxisRule, size: int | None, number: int) -> Growth | None:
        before = self._size
        if before is None or size is None or self._seen != set(range(before)):
            self._say(
                number,
                "grow",
                "cannot-grow",
                "blocks are copied between stages that run the first blocks, each stage so many in all its steps",
                "write sample=prefix and a constant size in this stage and those before it, without keep",
            )
            return None
        place = _insertion(said.grow, before, size - before)
        if place is not None:
            at, sources = place
            moments = "zero" if said.grow == "zero" else said.moments
            return Growth(before=before, at=at, sources=sources, moments=moments)
        self._say(
            number,
            "grow",
            "cannot-grow",
            f"copy({said.grow}) takes {plural(size - before, 'block')} of {before}",
            f"grow by {before} at most, or write grow=copy(all)",
        )
        return None

    def _new(self, on: set[int], growth: Growth | None, number: int) -> BoundDraw | None:
        """The units that did not run before, as a draw that always gives these."""
        new = list(growth.new) if growth else sorted(on - self._seen)
        if new:
            others = [unit for unit in range(self._units) if unit not in set(new)]
            law = Ranked(order=(*new, *others))
            return BoundDraw(law=law, sizes=(Border(offset=0, value=Fraction(len(new))),))
        fact = "no block is new in this stage: all have run before"
        self._say(number, "train", "nothing-new", fact, "remove train=new, or run more blocks")
        return None

    def _say(self, number: int, field: str, code: str, message: str, help: str) -> None:
        origin = self._origins.at(("stages", number, "axes", AXIS, field))
        self._diagnostics.add(code, message, origin.span, related=origin.chain, help=help)
        self.failed = True


def _prefix_size(rule: BoundRule | None, units: int) -> int | None:
    """How many of the first units run in every step of a stage, if these run and no others."""
    if rule is None:
        return units
    if len(rule.sizes) != 1 or rule.measure != "units":
        return None
    size = int(rule.sizes[0].value)
    if size == units or (isinstance(rule.law, Prefix) and all(unit < size for unit in rule.keep)):
        return size
    return None


def _insertion(grow: Grow, n: int, b: int) -> tuple[int, tuple[int, ...]] | None:
    """Where b new units are inserted among n, and the source of every unit (rule 35); None if b is too many."""
    match grow:
        case "zero":
            return n, (*range(n), *(-1,) * b)
        case "all":
            return n, tuple(unit % n for unit in range(n + b))
        case "middle":
            at = -(-n // (2 * b)) * b
        case _:
            at = n
    if b > at or at > n:
        return None
    return at, (*range(at), *range(at - b, n))


def _with_births(stages: Sequence[BoundStage], units: int) -> tuple[BoundStage, ...]:
    """In a schedule that grows, says of each stage how many units there are yet: the most that ran so far (rule 36)."""
    if not any(rule and rule.growth for rule in (stage.axes.get(AXIS) for stage in stages)):
        return tuple(stages)
    born, after = 0, []
    for stage in stages:
        rule = stage.axes.get(AXIS)
        born = max(born, _prefix_size(rule, units) or units)
        if rule and born < units:
            stage = stage.model_copy(update={"axes": {**stage.axes, AXIS: rule.model_copy(update={"born": born})}})
        after.append(stage)
    return tuple(after)
