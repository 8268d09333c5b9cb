"""What a run costs by an account: in all, by stage, by part of a block, beside the full network for the same steps."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from math import lcm, prod
from operator import mul

from raptr_dsl.axes import AXES, BLOCKS, HEAD
from raptr_dsl.flops.accounting import MATMUL, Accounting, times, whole
from raptr_dsl.flops.backward import Backward, Case, by_group, is_partial
from raptr_dsl.flops.parts import Costs, Exact, has_weight
from raptr_dsl.ir.bound import BoundStage
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.occupancy import Segment, alike_blocks, segments

Powers = tuple[tuple[str, int], ...]
"""By which axes, each to which power, the FLOPs of a part shrink."""

Spent = Sequence[Mapping[Powers, Exact]]
"""By residual stack: for each kind of part, how many times its full cost over all blocks of the stack is spent."""


@dataclass(frozen=True, slots=True)
class Loads:
    """What the steps of a stage spend.

    Attributes:
        runs: by the blocks that run. trains, flows: by those of them that train, and those through which the gradient
            flows; the very same object where everything that runs trains.
        frozen: the parts outside the blocks that do not train.
        outside: how many times the full cost of what is outside the blocks is spent; None for once in every step.
    """

    runs: Spent
    trains: Spent
    flows: Spent
    frozen: tuple[str, ...] = ()
    outside: Exact | None = None

    @property
    def is_partial(self) -> bool:
        return self.trains is not self.runs

    def weighed(self, weight: Fraction) -> "Loads":
        """The same of `weight` times as many steps."""
        runs = _weighed(self.runs, weight)
        outside = None if self.outside is None else self.outside * weight
        if not self.is_partial:
            return Loads(runs, runs, runs, self.frozen, outside)
        return Loads(runs, _weighed(self.trains, weight), _weighed(self.flows, weight), self.frozen, outside)


def _weighed(spent: Spent, weight: Fraction) -> Spent:
    return [{powers: times * weight for powers, times in stack.items()} for stack in spent]


@dataclass(frozen=True, slots=True)
class FlopReport:
    """Training FLOPs of a run or of one stage, beside those of the full network for the same steps.

    Integers wherever the counts are certain; under random laws the exact expectation, or the worst case.

    Attributes:
        blocks, full_blocks: of all blocks; the sums of `parts` and `full_parts`.
        head: of all outside the blocks. head_saved: what it would cost more if all of it ran and trained.
        parts, full_parts: of all blocks, by part of a block.
        stages: the same of each stage.
    """

    blocks: Exact
    head: Exact
    full_blocks: Exact
    parts: Costs
    full_parts: Costs
    stages: tuple["FlopReport", ...] = field(default=())
    head_saved: Exact = 0

    @property
    def total(self) -> Exact:
        """Blocks and vocabulary head."""
        return whole(self.blocks + self.head)

    @property
    def full_total(self) -> Exact:
        return whole(self.full_blocks + self.head + self.head_saved)

    @property
    def ratio_blocks(self) -> Fraction:
        return Fraction(self.blocks) / self.full_blocks

    @property
    def ratio_total(self) -> Fraction:
        return Fraction(self.total) / self.full_total

    def of_axis(self, axis: str) -> tuple[Exact, Exact]:
        """The FLOPs of the parts that an axis thins: planned, and of the full network."""
        thinned = AXES[axis].powers
        planned, full = (
            sum(flops for part, flops in parts.items() if part in thinned) for parts in (self.parts, self.full_parts)
        )
        return whole(planned), whole(full)


def block_cost(
    shape: ModelShape,
    active: Mapping[str, Fraction],
    accounting: Accounting = MATMUL,
    stack: int = 0,
    trains: bool = True,
    flows: bool = True,
) -> Fraction:
    """Training FLOPs of one block per step in which the share `active[axis]` of each axis's units runs.

    An axis left out runs in full. With whole units the result is whole, unless the account halves. With `depth` among
    the axes it is the mean over all blocks of a stack in which that share of them runs; shares of independent axes may
    be expectations.

    Args:
        stack: of an encoder–decoder: 0 for a block of the encoder, 1 for one of the decoder.
        trains: whether the block does. flows: whether it or anything before it does (rule 34).
    """
    total, costs = Fraction(0), accounting.costs(shape)
    for part in costs.stacks[stack]:
        cost = Fraction(costs.block(part, stack, trains, flows))
        for name, share in active.items():
            cost *= share ** AXES[name].powers.get(part, 0)
        total += cost
    return total


def head_cost(shape: ModelShape, accounting: Accounting = MATMUL, frozen: Collection[str] = ()) -> int:
    """Training FLOPs per step of all outside the blocks at full size, of which `embed` and `head` may be frozen."""
    return int(accounting.costs(shape).head_without(frozen))


def head_share(active: Mapping[str, Fraction]) -> Fraction:
    """By what `head_cost` is multiplied where such shares of the units of axes run."""
    return prod((share ** AXES[name].powers.get(HEAD, 0) for name, share in active.items()), start=Fraction(1))


def full_blocks_cost(shape: ModelShape) -> int:
    """Training FLOPs per step of all blocks at full size, by the account `MATMUL`."""
    return int(shape.layers * sum(MATMUL.costs(shape).blocks))


def run_report(
    shape: ModelShape,
    stages: Sequence[BoundStage],
    case: Case = "mean",
    exact: bool = False,
    accounting: Accounting = MATMUL,
    loads: Sequence[Loads] | None = None,
) -> FlopReport:
    """The account of a run, by stage.

    With `exact`, each stage's mean cost is weighed by its exact duration, before its borders were rounded to whole
    steps (rule 38): the ratios are then those of the file, at any horizon.

    Args:
        loads: what `stage_loads` says of each stage in that case, where it is known already.

    Raises:
        ValueError: the account does not fit the shape.
    """
    reports = []
    for number, stage in enumerate(stages):
        load, steps = loads[number] if loads else stage_loads(stage, shape, case), stage.steps
        if exact:
            steps = whole(stage.duration)
            weight = Fraction(steps) / stage.steps
            load = load.weighed(weight)
        reports.append(stage_report(shape, load, steps, accounting))
    return total_report(reports)


def stage_loads(stage: BoundStage, shape: ModelShape, case: Case = "mean") -> Loads:
    """How many times a stage spends the full cost of each kind of part: the expectation, or the most there can be."""
    kinds = set(powers_by_part(frozenset(stage.axes)).values())
    parts, layers = list(segments(stage, shape)), shape.layers
    spent = _Spent(parts, stage, shape, case)
    outside = outside_powers(stage)
    head = spent.of([outside], [(frozenset(), [layers] * len(parts))])[outside] if outside else None
    groups = alike_blocks(stage, layers)
    each = [by_group(segment.axes, stage, groups, layers, case) for segment in parts]

    def over_blocks(count: Callable[[Exact, Backward], Exact]) -> Spent:
        counts = zip(*([count(*of_group) for of_group in of_part] for of_part in each), strict=True)
        return [
            spent.of(kinds, [(group.full, list(of)) for group, of in zip(groups, counts, strict=True)])
        ] * shape.stacks

    runs = over_blocks(lambda run, _: run)
    if not is_partial(stage):
        return Loads(runs, runs, runs, stage.freeze, head)
    trains, flows = over_blocks(lambda _, both: both.trains), over_blocks(lambda _, both: both.flows)
    return Loads(runs, trains, flows, stage.freeze, head)


def outside_powers(stage: BoundStage) -> Powers:
    """By which axes of a stage what is outside the blocks shrinks."""
    return tuple((name, AXES[name].powers[HEAD]) for name in stage.axes if HEAD in AXES[name].powers)


class _Spent:
    """How many times the full cost of kinds of parts is spent in a stage, by blocks of which so many run.

    Axes are independent, so that expectations of products are products of expectations.
    """

    def __init__(self, parts: Sequence[Segment], stage: BoundStage, shape: ModelShape, case: Case) -> None:
        self._parts, self._layers = parts, shape.layers
        self._case: Case = case
        self._units = {name: AXES[name].space(shape).units for name in stage.axes}
        # In integers over one denominator for each axis: stages along a curve have thousands of sizes.
        self._sizes: dict[tuple[str, int], tuple[Sequence[int], int]] = {}

    def of(
        self, kinds: Collection[Powers], groups: Sequence[tuple[frozenset[str], Sequence[Exact]]]
    ) -> Mapping[Powers, Exact]:
        """For each kind of part, in full costs of all blocks of a stack.

        Args:
            groups: blocks in which these axes run in full, and how many of them are counted in each part of the stage.
        """
        loads: dict[Powers, Exact] = dict.fromkeys(kinds, Fraction(0))
        for full, counts in groups:
            running, denominator = _over_one(counts)
            steps = list(map(mul, (part.steps for part in self._parts), running))
            for powers in kinds:
                active, whole = steps, denominator * self._layers
                for name, power in powers:
                    if name != BLOCKS.name and name not in full:
                        numerators, scale = self._of_axis(name, power)
                        active, whole = map(mul, active, numerators), whole * scale
                loads[powers] += Fraction(sum(active), whole)
        return loads

    def _of_axis(self, name: str, power: int) -> tuple[Sequence[int], int]:
        """The active units of an axis to a power, in each part of the stage, over what they are at full size."""
        if (name, power) not in self._sizes:
            taken = [part.axes[name] for part in self._parts]
            sizes = {
                one: one.most**power if self._case == "worst" else one.moment(power) for one in dict.fromkeys(taken)
            }
            numerators, denominator = _over_one([sizes[one] for one in taken])
            self._sizes[name, power] = numerators, denominator * self._units[name] ** power
        return self._sizes[name, power]


def _over_one(numbers: Sequence[Exact]) -> tuple[Sequence[int], int]:
    """Numbers as integers over a common denominator."""
    denominator = lcm(*{number.denominator for number in numbers})
    return [number.numerator * (denominator // number.denominator) for number in numbers], denominator


@lru_cache(maxsize=64)
def powers_by_part(thinned: frozenset[str]) -> Mapping[str, Powers]:
    """For each part of a block, what it shrinks by where these axes are thinned. (Every part is in a block.)"""
    axes = [axis for name, axis in AXES.items() if name in thinned]
    return {
        part: tuple((axis.name, axis.powers[part]) for axis in axes if part in axis.powers) for part in BLOCKS.powers
    }


def stage_report(shape: ModelShape, loads: Loads, steps: Exact, accounting: Accounting) -> FlopReport:
    """The account of `steps` steps that spend the full cost of each kind of part as `loads` say."""
    costs = accounting.costs(shape)
    shrinking = powers_by_part(frozenset(name for powers in loads.runs[0] for name, _ in powers))
    planned: dict[str, Exact] = {}
    full: dict[str, Exact] = {}
    for number, (stack, load) in enumerate(zip(costs.stacks, loads.flows, strict=True)):
        for part, flops in stack.items():
            every = shape.layers * flops
            planned[part] = planned.get(part, 0) + times(every, load[shrinking[part]])
            full[part] = full.get(part, 0) + times(every, steps)
            if loads.is_partial:
                kind = shrinking[part]
                without = loads.runs[number][kind] - load[kind]
                without -= (load[kind] - loads.trains[number][kind]) if has_weight(part) else 0
                planned[part] += shape.layers * costs.forward[number][part] * without
    head = times(costs.head_without(loads.frozen), steps if loads.outside is None else loads.outside)
    return _report(planned, head, full, saved=times(costs.head, steps) - head)


def total_report(stages: Sequence[FlopReport]) -> FlopReport:
    """The account of a whole run from those of its stages."""
    return _report(
        _sum(stage.parts for stage in stages),
        sum(stage.head for stage in stages),
        _sum(stage.full_parts for stage in stages),
        tuple(stages),
        sum(stage.head_saved for stage in stages),
    )


def _sum(reports: Iterable[Costs]) -> dict[str, Exact]:
    total: dict[str, Exact] = {}
    for parts in reports:
        for part, flops in parts.items():
            total[part] = total.get(part, 0) + flops
    return total


def _report(
    parts: dict[str, Exact],
    head: Exact,
    full: dict[str, Exact],
    stages: tuple[FlopReport, ...] = (),
    saved: Exact = 0,
) -> FlopReport:
    for costs in (parts, full):
        costs |= {part: whole(flops) for part, flops in costs.items() if isinstance(flops, Fraction)}
    return FlopReport(
        whole(sum(parts.values())), whole(head), whole(sum(full.values())), parts, full, stages, whole(saved)
    )
