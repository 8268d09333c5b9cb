"""Of the blocks that run, how many train, and through how many the gradient flows (rules 33, 34)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from typing import Literal

from raptr_dsl.axes import BLOCKS, trained
from raptr_dsl.flops.parts import Exact
from raptr_dsl.ir.bound import BoundStage
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.laws.suffix import Suffix
from raptr_dsl.occupancy import Alike, Occupancy, segments

Case = Literal["mean", "worst"]


@dataclass(frozen=True, slots=True)
class Backward:
    """Blocks of one stack in one step.

    Attributes:
        trains: those that run and train. flows: those that run, and train themselves or have something before them
            that does: the embedding, where it is not frozen, or an earlier block.
    """

    trains: Exact
    flows: Exact


def is_partial(stage: BoundStage) -> bool:
    """Whether some blocks of a stage run without being trained."""
    rule = stage.axes.get(BLOCKS.name)
    return rule is not None and rule.train is not None


def backward_of(axes: Mapping[str, Occupancy], frozen: tuple[str, ...], layers: int, case: Case) -> Backward:
    """What the gradient costs in one segment of a stage of which `is_partial` holds.

    What runs and what trains are drawn apart, from words of their own, so that the expectation of both is a product.
    """
    runs, trains = axes.get(BLOCKS.name), axes[trained(BLOCKS.name)]
    on, chosen = certain(runs, layers), certain(trains, layers)
    if on is not None and chosen is not None:
        both = [unit in on and unit in chosen for unit in range(layers)]
        first = both.index(True) if any(both) else layers
        flows = len(on) if "embed" not in frozen else sum(unit >= first for unit in on)
        return Backward(sum(both), flows)
    if case == "worst":
        most = min(layers if runs is None else runs.most, trains.most)
        return Backward(most, _most(runs, layers) if "embed" not in frozen else most)
    chances = zip(marginals(runs, layers), marginals(trains, layers), strict=True)
    mean = sum((one * other for one, other in chances), Fraction(0))
    every = Fraction(layers) if runs is None else runs.mean
    return Backward(mean, every if "embed" not in frozen else mean)


def by_group(
    axes: Mapping[str, Occupancy], stage: BoundStage, groups: Sequence[Alike], layers: int, case: Case
) -> list[tuple[Exact, Backward]]:
    """How many blocks of each group run in one segment of a stage, and how many train and pass gradients on.

    The first group is that of blocks in which nothing is spared. Of every other block it is certain whether it runs
    and trains (`unsure_block`), so what is left of the totals is the first group's.
    """
    taken = axes.get(BLOCKS.name)
    runs: Exact = layers if taken is None else taken.most if case == "worst" else taken.mean
    partial = is_partial(stage)
    both = backward_of(axes, stage.freeze, layers, case) if partial else Backward(runs, runs)
    if len(groups) == 1:
        return [(runs, both)]
    on = [bool(chance) for chance in marginals(taken, layers)]
    trained_ = [bool(chance) for chance in marginals(axes[trained(BLOCKS.name)], layers)] if partial else on
    begins = accumulate(one and other for one, other in zip(on, trained_, strict=True))
    flowing = [bool(begun) or not partial or "embed" not in stage.freeze for begun in begins]
    spared: list[tuple[Exact, Backward]] = []
    for group in groups[1:]:
        running = [block for block in group.blocks if on[block]]
        trains, flows = (sum(which[block] for block in running) for which in (trained_, flowing))
        spared.append((len(running), Backward(trains, flows)))
    first = Backward(
        both.trains - sum(each.trains for _, each in spared), both.flows - sum(each.flows for _, each in spared)
    )
    return [(runs - sum(count for count, _ in spared), first), *spared]


def unsure_block(stage: BoundStage, shape: ModelShape) -> tuple[str, int, str] | None:
    """An axis of a stage, a block in which it runs in full, and `runs` or `trains`: whether it does is drawn.

    None where all such blocks are certain: then draws of one size cost the same.
    """
    if not any(rule.full for rule in stage.axes.values()):
        return None
    for segment in segments(stage, shape):
        runs = segment.axes.get(BLOCKS.name)
        on, settled = marginals(runs, shape.layers), certain(runs, shape.layers) is not None
        trains = marginals(segment.axes.get(trained(BLOCKS.name)), shape.layers)
        for name, rule in stage.axes.items():
            for block in rule.full:
                if on[block] != 1 and not settled:
                    return name, block, "runs"
                if on[block] and trains[block] not in (0, 1):
                    return name, block, "trains"
    return None


def is_known(axes: Mapping[str, Occupancy], frozen: tuple[str, ...], layers: int) -> bool:
    """Whether `backward_of` can tell without drawing masks how far the gradient flows.

    Where the embedding is frozen it begins at the first block that runs and trains. That is known where both sets are
    the same in every draw, and where those that train are the last ones, so that none before them waits for it.
    """
    if "embed" not in frozen:
        return True
    runs, trains = axes.get(BLOCKS.name), axes[trained(BLOCKS.name)]
    if certain(trains, layers) is None:
        return False
    return certain(runs, layers) is not None or isinstance(trains.law, Suffix)


def surely_trains(axes: Mapping[str, Occupancy], layers: int) -> bool:
    """Whether in every draw some block runs and trains."""
    runs, trains = axes.get(BLOCKS.name), axes.get(trained(BLOCKS.name))
    both = zip(marginals(runs, layers), marginals(trains, layers), strict=True)
    if any(one == other == 1 for one, other in both):
        return True
    # Of two sets of which both vary, or neither holds a block of the other, nothing is sure.
    full = (layers,)
    if (runs is None or runs.possible == full) and trains is not None:
        return trains.possible[0] >= 1
    return (trains is None or trains.possible == full) and runs is not None and runs.possible[0] >= 1


def certain(taken: Occupancy | None, layers: int) -> tuple[int, ...] | None:
    """The units that are chosen, if they are the same in every draw."""
    if taken is None:
        return tuple(range(layers))
    pool = taken.pools[0][0]
    if len(taken.pools) > 1 or (taken.law.varies and not pool.is_settled):
        return None
    return tuple(unit for unit, chance in enumerate(marginals(taken, layers)) if chance == 1)


def marginals(taken: Occupancy | None, layers: int) -> tuple[Fraction, ...]:
    """The chance of each unit to be chosen (rule 28)."""
    if taken is None:
        return (Fraction(1),) * layers
    total = [Fraction(0)] * layers
    for pool, times in taken.pools:
        if pool.is_settled:
            chances = (Fraction(1),) * layers if pool.size == pool.n else pool.marginals(Fraction(0))
        else:
            chances = taken.law.marginals(pool)
        total = [sum_ + times * chance for sum_, chance in zip(total, chances, strict=True)]
    return tuple(sum_ / taken.total for sum_ in total)


def _most(taken: Occupancy | None, layers: int) -> int:
    return layers if taken is None else taken.most
