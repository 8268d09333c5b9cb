"""What a plan costs, by several accounts: the figures behind `raptr cost`, for tables and for programs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import prod, sqrt
from typing import Any

from raptr_dsl.axes import AXES
from raptr_dsl.flops import CONVENTIONS, Accounting, Exact, FlopReport
from raptr_dsl.flops.padding import padded_cost
from raptr_dsl.flops.spread import FlopSpread, varies
from raptr_dsl.ir.plan import Plan
from raptr_dsl.occupancy import segments

MOST_WORDS = 2**27
"""Random words drawn to count what one seed costs, unless it is asked for: about a second."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """What a GPU makes of FLOPs: the share `mfu` of its peak of `tflops` · 10¹² FLOPs a second."""

    tflops: Fraction
    mfu: Fraction

    def hours(self, flops: Exact) -> Fraction:
        """GPU-hours."""
        return flops / (self.tflops * 10**12 * self.mfu * 3600)


@dataclass(frozen=True)
class Cost:
    """The cost of a plan by one account.

    Attributes:
        mean, worst, seed: the expectation, the most there can be, and what the plan's seed draws; `worst` is `mean`
            and `seed` is `mean` where all seeds cost the same, and `seed` is None where it was not counted.
        variances: of the blocks' FLOPs of each stage over all seeds; None where it is not known.
        padded: of each stage, the expected FLOPs of idle blocks that fill its buckets; no part of the others.
    """

    accounting: Accounting
    mean: FlopReport
    worst: FlopReport
    seed: FlopReport | None
    variances: tuple[Exact | None, ...]
    padded: tuple[Exact, ...]

    @property
    def name(self) -> str:
        """The convention, and what is assumed beside it: `matmul recompute=full`."""
        words = [self.accounting.convention]
        words += ["causal=half"] if self.accounting.causal == "half" else []
        words += [f"recompute={self.accounting.recompute}"] if self.accounting.recompute != "none" else []
        return " ".join(words)

    @cached_property
    def variance(self) -> Exact | None:
        """Of the whole run."""
        known = [variance for variance in self.variances if variance is not None]
        return sum(known) if len(known) == len(self.variances) else None

    @property
    def deviation(self) -> float | None:
        """The standard deviation in FLOPs."""
        return None if self.variance is None else _root(self.variance)


def costs(plan: Plan, accountings: Sequence[Accounting], count_seed: bool = False) -> list[Cost]:
    """The cost of a plan by each account.

    What this seed draws is counted where that is quick, or by `count_seed`.

    Raises:
        ValueError: an account does not fit the model.
    """
    is_random = any(map(varies, plan.stages))
    counts = is_random and (count_seed or words_to_draw(plan) * len(accountings) <= MOST_WORDS)
    spread = FlopSpread(plan.shape, plan.stages)
    found = []
    for accounting in accountings:
        words = (accounting.causal, accounting.recompute)
        mean = plan.flops(accounting.convention, "mean", *words)
        worst = plan.flops(accounting.convention, "worst", *words) if is_random else mean
        seed = plan.flops(accounting.convention, "seed", *words) if counts else None if is_random else mean
        padded = tuple(padded_cost(stage, plan.shape, accounting) for stage in plan.stages)
        found.append(Cost(accounting, mean, worst, seed, spread.variances(accounting), padded))
    return found


def words_to_draw(plan: Plan) -> int:
    """How many random words it takes to count what this seed costs."""
    return sum(
        -(-stage.steps // (rule.every or stage.steps)) * space.sites * space.units
        for stage in plan.stages
        if varies(stage)
        for name, rule in stage.axes.items()
        for space in [AXES[name].space(plan.shape)]
    )


def accounts(plan: Plan, names: Sequence[str], causal: Any = "full", recompute: Any = "none") -> list[Accounting]:
    """The accounts asked for; without names, all conventions that fit the model.

    Raises:
        ValueError: one of the names is none, or its formula does not fit the model, in the user's words.
    """
    made = [Accounting(name, causal, recompute) for name in names or CONVENTIONS]
    if not names:
        fitting = [one for one in made if not one.problem(plan.shape)]
        made = fitting or made
    for one in made:
        if problem := one.problem(plan.shape):
            raise ValueError(problem)
    return made


def token_share(plan: Plan) -> Fraction:
    """How many tokens the steps of a plan see, of those that full ones would: 1, unless an axis thins the tokens."""
    total = Fraction(0)
    for stage in plan.stages:
        for part in segments(stage, plan.shape):
            shares = (
                part.axes[name].mean / axis.space(plan.shape).units
                for name, axis in AXES.items()
                if axis.thins_tokens and name in part.axes
            )
            total += prod(shares, start=Fraction(part.steps))
    return total / plan.steps


def dense_steps(plan: Plan, cost: Cost) -> Fraction:
    """For how many steps the full network would train at the same FLOPs."""
    return Fraction(cost.mean.total) * plan.steps / cost.mean.full_total


def cost_data(plan: Plan, found: Sequence[Cost], throughput: Throughput | None = None) -> dict[str, Any]:
    """All of it for programs. Exact integers and rationals are strings: no JSON reader rounds those."""
    share, full = token_share(plan), plan.steps * plan.shape.tokens
    return {
        "name": plan.name,
        "doc": plan.doc,
        "digest": plan.digest,
        "seed": plan.seed,
        "steps": plan.steps,
        "tokens": _number(full * share),
        "shape": plan.shape.model_dump(mode="json"),
        "dense": {
            "same_steps": {"steps": _number(Fraction(plan.steps)), "tokens": _number(Fraction(full))},
            "same_tokens": {"steps": _number(plan.steps * share), "tokens": _number(full * share)},
        },
        "accounts": [_account_data(plan, cost, share, throughput) for cost in found],
    }


def _account_data(plan: Plan, cost: Cost, tokens: Fraction, throughput: Throughput | None) -> dict[str, Any]:
    data: dict[str, Any] = {
        "convention": cost.accounting.convention,
        "causal": cost.accounting.causal,
        "recompute": cost.accounting.recompute,
        "source": CONVENTIONS[cost.accounting.convention].source,
        **dict(_figures(cost.mean)),
        "ratio_blocks_per_tokens": str(cost.mean.ratio_blocks / tokens),
        "ratio_total_per_tokens": str(cost.mean.ratio_total / tokens),
        "ceiling_blocks": str(1 / cost.mean.ratio_blocks) if cost.mean.blocks else None,
        "ceiling_total": str(1 / cost.mean.ratio_total) if cost.mean.total else None,
        "dense_steps_at_equal_flops": str(dense_steps(plan, cost)),
        "worst": dict(_figures(cost.worst)),
        "this_seed": None if cost.seed is None else dict(_figures(cost.seed)),
        "variance": None if cost.variance is None else str(cost.variance),
        "standard_deviation": cost.deviation,
        "padded": str(sum(cost.padded)),
        "stages": [
            {
                "name": stage.name,
                "start": stage.start,
                "stop": stage.stop,
                **dict(_figures(cost.mean.stages[place])),
                "worst": dict(_figures(cost.worst.stages[place])),
                "this_seed": None if cost.seed is None else dict(_figures(cost.seed.stages[place])),
                "variance": None if cost.variances[place] is None else str(cost.variances[place]),
                "padded": str(cost.padded[place]),
            }
            for place, stage in enumerate(plan.stages)
        ],
    }
    if throughput is not None:
        planned, dense = throughput.hours(cost.mean.total), throughput.hours(cost.mean.full_total)
        data["gpu_hours"] = {
            "tflops": str(throughput.tflops),
            "mfu": str(throughput.mfu),
            "planned": str(planned),
            "dense": str(dense),
        }
    return data


def _figures(report: FlopReport) -> Iterator[tuple[str, str]]:
    for name in ("blocks", "total", "full_blocks", "full_total", "ratio_blocks", "ratio_total"):
        yield name, str(getattr(report, name))


def _number(value: Fraction) -> int | str:
    """Whole numbers of steps and tokens as numbers, other ones as `"1/2"`."""
    return int(value) if value.denominator == 1 else str(value)


def _root(variance: Exact) -> float:
    """Beyond the range of floats too: 10²⁰ FLOPs squared are not near it, but a longer run is."""
    shift = max(0, (Fraction(variance).numerator.bit_length() - Fraction(variance).denominator.bit_length()) // 2 - 400)
    return sqrt(Fraction(variance) / 4**shift) * 2**shift
