"""What `require` can ask about. A new metric is one more entry of `METRICS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import prod
from typing import TYPE_CHECKING, cast, get_args

from raptr_dsl.axes import AXES
from raptr_dsl.flops import CONVENTIONS, Accounting, Causal, FlopReport, Recompute, run_report
from raptr_dsl.guarantees import guarantee
from raptr_dsl.ir.bound import BoundSchedule, BoundStage
from raptr_dsl.ir.schedule import Requirement
from raptr_dsl.occupancy import mean_of_blocks, occupancy, segments
from raptr_dsl.programs import count_shapes
from raptr_dsl.wording import plural

if TYPE_CHECKING:
    from raptr_dsl.ir.plan import Plan


@dataclass(frozen=True, slots=True)
class Question:
    """A requirement put to a bound schedule, under the seed of the run.

    Attributes:
        in_whole_steps: whether stages weigh by the steps they have, also where rule 38 takes their exact durations.
    """

    bound: BoundSchedule
    plan: Plan
    requirement: Requirement
    in_whole_steps: bool = False

    @property
    def relative(self) -> bool:
        """Whether it asks for a share rather than a count (rule 37)."""
        return not self.requirement.value.is_count

    @property
    def weighs_durations(self) -> bool:
        """Whether stages weigh by their exact durations (rule 38)."""
        return self.relative and not self.in_whole_steps

    def option(self, name: str, default: str) -> str:
        return self.requirement.options.get(name, default)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a metric is.

    Attributes:
        value: exact, a share if the question is relative.
        bound: `at least` or `at most` where it is a bound that settles the question; "" where it is the value itself.
        proof: `for every seed` or `for seed 17`, where masks have a say in it.
        whole: of what the value is a share. Of a weighed metric, value × whole is linear in durations.
    """

    value: Fraction
    bound: str = ""
    proof: str = ""
    whole: Fraction = Fraction(1)


@dataclass(frozen=True, slots=True)
class Metric:
    """One thing that the compiler can know before training.

    Attributes:
        targets: the words its first argument can be; empty if any axis. `default` is the one it has when left out.
        options: its named arguments with the words they can be, the first the default; empty for a number.
        shares, counts: whether it can be compared with a share (`75%`), with a count (`8`).
        evaluate: the answer.
        problem: why it cannot be asked of this model, in the user's words; "" if it can.
        weighed: whether as a share it weighs each stage by its exact duration (rule 38).
    """

    name: str
    summary: str
    evaluate: Callable[[Question], Answer]
    targets: tuple[str, ...] = ()
    default: str | None = None
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    shares: bool = True
    counts: bool = True
    problem: Callable[[Question], str] = lambda question: ""
    weighed: bool = False


def _accounting(question: Question) -> Accounting:
    """How the question wants FLOPs to be counted; its words were checked when it was read."""
    return Accounting(
        question.option("convention", "matmul"),
        cast(Causal, question.option("causal", "full")),
        cast(Recompute, question.option("recompute", "none")),
    )


def flop_report(question: Question) -> FlopReport:
    """The account that a question about FLOPs asks for."""
    accounting, case = _accounting(question), question.option("case", "mean")
    if case == "seed":
        return question.plan.flops(accounting.convention, "seed", accounting.causal, accounting.recompute)
    bound, counted = question.bound, "worst" if case == "worst" else "mean"
    return run_report(bound.shape, bound.stages, counted, question.weighs_durations, accounting)


def _flops(question: Question) -> Answer:
    report = flop_report(question)
    is_total = question.requirement.target == "total"
    part, whole = (report.total, report.full_total) if is_total else (report.blocks, report.full_blocks)
    if question.option("per", "steps") == "tokens" and question.relative:
        whole *= _token_share(question)
    is_drawn = question.option("case", "mean") == "seed"
    return Answer(
        Fraction(part) / whole if question.relative else Fraction(part),
        proof=f"for seed {question.plan.seed}" if is_drawn else "",
        whole=Fraction(whole) if question.relative else Fraction(1),
    )


def _token_share(question: Question) -> Fraction:
    """How many tokens the steps of a run see, of those that full ones would (rule 37)."""
    total, bound = Fraction(0), question.bound
    for stage in bound.stages:
        for segment in segments(stage, bound.shape):
            shares = (
                segment.axes[name].mean / axis.space(bound.shape).units
                for name, axis in AXES.items()
                if axis.thins_tokens and name in segment.axes
            )
            weight = stage.duration / stage.steps if question.weighs_durations else Fraction(1)
            total += prod(shares, start=Fraction(segment.steps)) * weight
    return total / bound.steps


def _unclear_flops(question: Question) -> str:
    """Why a question about FLOPs cannot be answered, or has two answers; "" if it has one."""
    thinned = {name: None for stage in question.bound.stages for name in stage.axes if AXES[name].thins_tokens}
    if thinned and question.relative and "per" not in question.requirement.options:
        return (
            f"{' and '.join(thinned)} thins the tokens of a step: relative to the full network for as many steps, or "
            "for as many tokens? Say flops(per=steps) or flops(per=tokens)"
        )
    return _accounting(question).problem(question.bound.shape)


def _shapes(question: Question) -> Answer:
    return Answer(Fraction(count_shapes(question.bound.stages, question.bound.shape)))


def _size_at(stage: BoundStage, question: Question, offset: int) -> Fraction:
    axis = str(question.requirement.target)
    space = AXES[axis].space(question.bound.shape)
    rule = stage.axes.get(axis)
    layers, units = question.bound.shape.layers, Fraction(space.units)
    if rule is not None:
        units = mean_of_blocks(occupancy(rule, space, offset), rule, space, layers)
    return units / space.units if question.relative else units * space.group


def _final(question: Question) -> Answer:
    last = question.bound.stages[-1]
    return Answer(_size_at(last, question, last.steps - 1))


def _mean(question: Question) -> Answer:
    """Weighed by exact durations if relative, by whole steps if not (rule 38)."""
    total = Fraction(0)
    for stage in question.bound.stages:
        mean = sum(
            (
                segment.steps * _size_at(stage, question, segment.start - stage.start)
                for segment in segments(stage, question.bound.shape)
            ),
            Fraction(0),
        )
        weight = stage.duration if question.weighs_durations else Fraction(stage.steps)
        total += mean * weight / stage.steps
    return Answer(total / question.bound.steps)


def _coverage(question: Question) -> Answer:
    """By theorem where one settles the question, else by counting this seed's masks (rule 39)."""
    from raptr_dsl.tally import EVERY_SEED, trained_steps

    whole = question.bound.steps if question.relative else 1
    sure = guarantee(question.bound.shape, question.bound.stages, str(question.requirement.target))
    if sure is not None:
        least = Fraction(sure.least, whole)
        if sure.is_exact:
            return Answer(least, proof=EVERY_SEED)
        if question.requirement.op == ">=" and least >= question.requirement.value.value:
            return Answer(least, "at least", EVERY_SEED)
    counted = trained_steps(question.plan, str(question.requirement.target))
    return Answer(Fraction(counted.least, whole), proof=counted.proof)


def _gap(question: Question) -> Answer:
    """By theorem where one settles the question, else by counting this seed's masks (rule 39)."""
    from raptr_dsl.tally import EVERY_SEED, trained_steps

    sure = guarantee(question.bound.shape, question.bound.stages, str(question.requirement.target))
    if sure is not None and question.requirement.op == "<=" and sure.longest_gap <= question.requirement.value.value:
        return Answer(Fraction(sure.longest_gap), "at most", EVERY_SEED)
    counted = trained_steps(question.plan, str(question.requirement.target))
    return Answer(Fraction(counted.longest_gap), proof=counted.proof)


def _balance(question: Question) -> Answer:
    from raptr_dsl.tally import largest_imbalance, proof_of

    axis, groups = str(question.requirement.target), int(question.option("groups", "1"))
    return Answer(Fraction(largest_imbalance(question.plan, axis, groups)), proof=proof_of(question.plan, axis))


def _misfit(question: Question) -> str:
    """Why the model has no such axis."""
    return AXES[str(question.requirement.target)].misfit(question.bound.shape)


def _unequal_groups(question: Question) -> str:
    if misfit := _misfit(question):
        return misfit
    axis = AXES[str(question.requirement.target)]
    units, groups = axis.space(question.bound.shape).units, question.option("groups", "1")
    if groups.isdigit() and int(groups) > 0 and units % int(groups) == 0:
        return ""
    return f"{plural(units, axis.unit)} do not split into groups={groups} equal groups"


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "flops",
            "training FLOPs, relative to the full network for the same steps, or absolute",
            _flops,
            targets=("blocks", "total"),
            default="blocks",
            options={
                "convention": tuple(CONVENTIONS),
                "causal": get_args(Causal),
                "recompute": get_args(Recompute),
                "per": ("steps", "tokens"),
                "case": ("mean", "worst", "seed"),
            },
            problem=_unclear_flops,
            weighed=True,
        ),
        Metric(
            "coverage",
            "the least steps, or share of all steps, in which any unit is trained",
            _coverage,
            problem=_misfit,
        ),
        Metric("gap", "the longest run of steps that any unit goes untrained", _gap, shares=False, problem=_misfit),
        Metric(
            "shapes",
            "distinct program shapes that an ahead-of-time compiler has to build",
            _shapes,
            targets=("all",),
            default="all",
            shares=False,
        ),
        Metric("mean", "the average size", _mean, problem=_misfit, weighed=True),
        Metric("final", "the last size", _final, problem=_misfit),
        Metric(
            "balance",
            "the largest difference in active units between equal groups in any step",
            _balance,
            options={"groups": ()},
            shares=False,
            problem=_unequal_groups,
        ),
    )
}
