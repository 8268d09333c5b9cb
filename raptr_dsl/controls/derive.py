"""From a plan to its controls, each checked: it compiles, and its FLOPs are the plan's to within one full step."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from raptr_dsl.api import check_text
from raptr_dsl.axes import AXES
from raptr_dsl.controls.budget import FALL, Budget, constant_mix, falling
from raptr_dsl.controls.write import constant_parts, schedule_text, stage_texts, unwritten
from raptr_dsl.flops import MATMUL, Accounting
from raptr_dsl.ir.bound import Border, BoundRule, BoundStage
from raptr_dsl.ir.checks import MOST_STAGES
from raptr_dsl.ir.plan import Plan
from raptr_dsl.wording import plural


@dataclass(frozen=True, slots=True)
class Control:
    """One control of a schedule, or why there is none.

    Attributes:
        name: `dense`, `constant`, `reversed`, `decreasing`; `raptr controls` adds it to the schedule's own.
        summary: what it is, in one line.
        text, plan: the file, and what it compiles to; None where there is none.
        off_by: its FLOPs, blocks and head, less the schedule's.
        notes: what to know when it is run or read. reason: why there is none.
    """

    name: str
    summary: str
    text: str | None = None
    plan: Plan | None = None
    off_by: Fraction = Fraction(0)
    notes: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Draft:
    """A control before it is written."""

    summary: str
    steps: int
    partial: bool
    stages: list[str]
    notes: tuple[str, ...] = ()


class _CannotDerive(Exception):
    """Says why."""


def derive(plan: Plan, accounting: Accounting = MATMUL) -> list[Control]:
    """Every control of a plan, those that cannot be derived with the reason.

    FLOPs are those of blocks and head; of random laws, the expectation.

    Raises:
        ValueError: the account does not fit the model.
    """
    budget = Budget(plan, accounting, _axis(plan))
    return [_control(name, make, budget) for name, make in CONTROLS.items()]


def _axis(plan: Plan) -> str:
    """Along which axis sizes are chosen: depth if it is thinned, else the first that is."""
    return next((axis for axis in AXES if any(axis in stage.axes for stage in plan.stages)), next(iter(AXES)))


def _control(name: str, make: Callable[[Budget], _Draft], budget: Budget) -> Control:
    plan = budget.plan
    try:
        draft = make(budget)
    except _CannotDerive as error:
        return Control(name, _SUMMARIES[name], reason=str(error))
    doc = (
        f"{draft.summary}: {name} control of {plan.name}, of equal FLOPs ({budget.accounting.convention}). "
        + " ".join(draft.notes)
    )
    text = schedule_text(doc.strip(), plan.shape, draft.steps, plan.seed, draft.partial, draft.stages)
    compilation = check_text(text, name=f"{plan.name}-{name}", complete=True)
    if compilation.plan is None:
        said = "; ".join(one.message for one in compilation.diagnostics if one.severity == "error")
        return Control(name, draft.summary, reason=f"what it would be does not compile: {said}")
    off_by = Budget(compilation.plan, budget.accounting, budget.axis).flops - budget.flops
    if abs(off_by) > budget.step:
        return Control(name, draft.summary, reason=f"the nearest is {float(off_by / budget.step):.2f} full steps away")
    return Control(name, draft.summary, text, compilation.plan, off_by, draft.notes)


def _dense(budget: Budget) -> _Draft:
    steps = max(1, round(budget.flops / budget.step))
    note = f"The learning rate has to end its course at step {steps:,}, not {budget.plan.steps:,}."
    notes = (note,) if steps != budget.plan.steps else ()
    return _Draft(f"the full network for {plural(steps, 'step')}", steps, False, ["stage full steps=100%"], notes)


def _constant(budget: Budget) -> _Draft:
    rule = _first_rule(budget)
    mix = constant_mix(budget, rule)
    name, units = budget.axis, budget.space.units
    if mix is None:
        raise _CannotDerive(
            f"{name} at its least, all along, costs more than this schedule: other axes would have to be thinned too"
        )
    used = [(size, steps) for size, steps in ((mix.low, mix.low_steps), (mix.high, mix.high_steps)) if steps]
    stages = [_stage(budget, rule, size, steps) for size, steps in used]
    sizes = [f"{size}/{units}" for size, _ in used]
    notes = []
    if len(used) > 1:
        last = plural(mix.high_steps, "step")
        notes.append(f"No one size of {name} meets the budget: it is {sizes[0]}, and {sizes[1]} for the last {last}.")
    texts = list(stage_texts(stages, budget.plan.shape))
    partial = bool(stages[-1].axes)
    return _Draft(f"{name} {' and '.join(sizes)} in every step", budget.plan.steps, partial, texts, tuple(notes))


def _reversed(budget: Budget) -> _Draft:
    plan = budget.plan
    beyond = sorted({word for stage in plan.stages for word in unwritten(stage)})
    if beyond:
        raise _CannotDerive(f"{', '.join(beyond)} would not mean the same in another order")
    _require_thinned(budget)
    parts: list[BoundStage] = []
    for stage in reversed(plan.stages):
        pieces = [part for _, part in constant_parts(stage)]
        if len(pieces) == 1:
            pieces = [pieces[0].model_copy(update={"name": stage.name})]
        parts += reversed(pieces)
    if len(parts) > MOST_STAGES:
        raise _CannotDerive(f"its curves have {len(parts):,} levels, and a file has at most {MOST_STAGES:,} stages")
    if [part.axes for part in parts] == [part.axes for part in reversed(parts)] and len(
        {part.steps for part in parts}
    ) == 1:
        raise _CannotDerive("it is the same in either order")
    return _Draft("the stages in reversed order", plan.steps, True, list(stage_texts(parts, plan.shape)))


def _decreasing(budget: Budget) -> _Draft:
    _require_thinned(budget)
    name, steps = budget.axis, budget.plan.steps
    laws = AXES[name].laws
    if laws is not None and "bernoulli" not in laws:
        raise _CannotDerive(f"{name} has no keep probability that could fall")
    if fewest := AXES[name].fewest(budget.plan.shape):
        raise _CannotDerive(f"{name} has no keep probability that could fall: every draw leaves {fewest} or more")
    found = None
    for profile in ("linear", "uniform") if AXES[name].units_are_blocks else ("uniform",):
        found = found or falling(budget, profile)
    if found is None:
        raise _CannotDerive(
            f"{name} cannot fall from its full size to one that meets the budget in {plural(steps, 'step')}"
        )
    common = f"{name}.sample=bernoulli" + (" depth.profile=linear" if found.profile == "linear" else "")
    floor, rest = (f"{chance.numerator}/{chance.denominator}" for chance in (found.floor, found.rest))
    stages = [
        f"stage fall {name}=prob(exp(100%, {floor}, rate={FALL // 2})) {common} steps={found.fall}",
        f"stage floor {name}=prob({rest}) {common} steps={steps - found.fall}",
    ]
    notes = ("FLOPs are equal in expectation: the number of units is drawn.",)
    return _Draft(f"{name} that falls as in progressive layer dropping", steps, True, stages, notes)


def _first_rule(budget: Budget) -> BoundRule:
    """How the schedule draws along the axis, where it first does."""
    _require_thinned(budget)
    return next(stage.axes[budget.axis] for stage in budget.plan.stages if budget.axis in stage.axes)


def _require_thinned(budget: Budget) -> None:
    if not any(stage.axes for stage in budget.plan.stages):
        raise _CannotDerive("it thins nothing, and is its own control")


def _stage(budget: Budget, rule: BoundRule, size: int, steps: int) -> BoundStage:
    axes = {}
    if size < budget.space.units:
        drawn = {"law": rule.law, "keep": rule.keep, "full": rule.full, "profile": rule.profile, "every": rule.every}
        border = Border(offset=0, value=Fraction(size))
        axes = {budget.axis: BoundRule(**drawn, sizes=(border,), scale=rule.scale, idle=rule.idle)}
    return BoundStage(start=0, stop=steps, duration=Fraction(steps), axes=axes)


CONTROLS: dict[str, Callable[[Budget], _Draft]] = {
    "dense": _dense,
    "constant": _constant,
    "reversed": _reversed,
    "decreasing": _decreasing,
}
"""By name, from a budget to a draft."""

_SUMMARIES = {
    "dense": "the full network for fewer steps",
    "constant": "one size in every step",
    "reversed": "the stages in reversed order",
    "decreasing": "a size that falls as in progressive layer dropping",
}
