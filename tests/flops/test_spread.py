"""The variance of FLOPs: against the enumeration of every outcome, and against simulated seeds."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from fractions import Fraction
from itertools import combinations, pairwise, permutations, product
from math import floor, prod

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from raptr_dsl import compile_text
from raptr_dsl.axes import AXES
from raptr_dsl.flops import MATMUL, block_cost
from raptr_dsl.flops.backward import marginals
from raptr_dsl.flops.cells import cells
from raptr_dsl.flops.spread import FlopSpread
from raptr_dsl.ir.bound import Border, BoundRule, BoundStage
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import Plan
from raptr_dsl.ir.schedule import Profile
from raptr_dsl.laws import LAWS, Pool
from raptr_dsl.occupancy import Segment, segments
from raptr_dsl.sampling import pools
from tests.axes import PARTS
from tests.laws.drawn import plans as any_plans
from tests.laws.drawn import with_full

MOST_OUTCOMES = 20_000

Counts = tuple[tuple[int, ...], ...]
"""By site, the units that are on."""


def chosen(pool: Pool, law: str, sites: int) -> Iterator[tuple[Counts, Fraction]]:
    """Every outcome of one draw of one size at all sites, with its probability."""
    free = list(pool.units)
    quota = pool.size - len(pool.keep)
    delta = Fraction(0)
    weights = [Fraction(1)] * pool.n if pool.weights is None else list(pool.weights.values)
    if quota != len(free):
        delta = (len(free) - quota) / sum(weights[unit] for unit in free)
    chances = {unit: 1 - weights[unit] * delta for unit in free}
    if law == "bernoulli":
        ways = [
            ((*pool.keep, *(unit for unit, on in zip(free, bits, strict=True) if on)),
             prod(chances[unit] if on else 1 - chances[unit] for unit, on in zip(free, bits, strict=True)))
            for bits in product((False, True), repeat=len(free))
        ]  # fmt: skip
        yield from alone(ways, sites)
    elif law == "fixed":
        subsets = list(combinations(free, int(quota)))
        yield from alone([((*pool.keep, *subset), Fraction(1, len(subsets))) for subset in subsets], sites)
    elif law == "prefix":
        yield ((*pool.keep, *free[: int(quota)]),) * sites, Fraction(1)
    else:
        assert law == "systematic"
        orders = list(permutations(free))
        borders = {Fraction(0), Fraction(1)}
        for order in orders:
            total = Fraction(0)
            for unit in order:
                total += chances[unit]
                borders.add((-total) % 1)
        ends = sorted(borders)
        for low, high in pairwise(ends):
            offset = (low + high) / 2  # nothing changes within
            ways = [(crossing(order, chances, offset, pool.keep), Fraction(1, len(orders))) for order in orders]
            for outcome, chance in alone(ways, sites):
                yield outcome, chance * (high - low)


def crossing(order, chances, offset: Fraction, keep) -> tuple[int, ...]:
    total, on = Fraction(0), list(keep)
    for unit in order:
        before, total = total, total + chances[unit]
        if floor(total + offset) > floor(before + offset):
            on.append(unit)
    return tuple(on)


def alone(ways, sites: int) -> Iterator[tuple[Counts, Fraction]]:
    """Sites independent of each other."""
    for picked in product(ways, repeat=sites):
        yield tuple(way[0] for way in picked), prod((way[1] for way in picked), start=Fraction(1))


def draws(stage: BoundStage, name: str, shape: ModelShape) -> list[tuple[int, int, list[tuple[Counts, Fraction]]]]:
    """(first step, last step + 1, every outcome) of each draw of an axis in a stage."""
    rule, space = stage.axes[name], AXES[name].space(shape)
    every = min(rule.every or stage.steps, stage.steps)
    found = []
    full = [stack * shape.layers + block for stack in range(shape.stacks) for block in rule.full]
    for start in range(0, stage.steps, every):
        if rule.choices:
            by_size = {pool.size: pool for pool in pools(rule, space)}
            drawn = [by_size[Fraction(size)] for size in rule.choices]
        else:
            place = max(place for place, border in enumerate(rule.sizes) if border.offset <= start)
            drawn = [list(pools(rule, space))[place]]
        outcomes = [
            (
                tuple(tuple(range(space.units)) if site in full else units for site, units in enumerate(outcome)),
                chance / len(drawn),
            )
            for pool in drawn
            for outcome, chance in chosen(pool, rule.law.law, space.sites)
            if chance
        ]
        found.append((start, min(start + every, stage.steps), outcomes))
    return found


def enumerated(shape: ModelShape, stage: BoundStage) -> Fraction:
    """The variance of the FLOPs of the blocks by the probability of every outcome."""
    tracks = {name: draws(stage, name, shape) for name in stage.axes}
    flat = [(name, draw) for name, track in tracks.items() for draw in track]
    assume(prod(len(draw[2]) for _, draw in flat) * stage.steps <= MOST_OUTCOMES)
    mean = square = Fraction(0)
    for outcome in product(*(draw[2] for _, draw in flat)):
        chance = prod((chance for _, chance in outcome), start=Fraction(1))
        on = {}
        for (name, (start, stop, _)), (units, _) in zip(flat, outcome, strict=True):
            on |= {(name, step): units for step in range(start, stop)}
        cost = sum(step_cost(shape, {name: on[name, step] for name in stage.axes}) for step in range(stage.steps))
        mean += chance * cost
        square += chance * cost**2
    return square - mean**2


def step_cost(shape: ModelShape, on: dict[str, Counts]) -> Fraction:
    total = Fraction(0)
    for block in range(shape.blocks):
        stack, unit = divmod(block, shape.layers)
        if "depth" in on and unit not in on["depth"][stack]:
            continue
        shares = {
            name: Fraction(len(units[block if AXES[name].per_block else 0]), AXES[name].space(shape).units)
            for name, units in on.items()
            if name != "depth"
        }
        total += block_cost(shape, shares, MATMUL, stack)
    return total


@st.composite
def small_stages(draw: st.DrawFn) -> tuple[ModelShape, BoundStage]:
    experts = draw(st.sampled_from([1, 1, 2]))
    shape = ModelShape(
        layers=draw(st.integers(1, 3)),
        heads=2,
        hidden=4,
        ffn=draw(st.integers(1, 2)),
        experts=experts,
        width_group=1,
        vocab=3,
        seq=2,
        batch=2,
        source_seq=draw(st.sampled_from([0, 0, 1])),
    )
    steps = draw(st.integers(1, 3))
    axes = {
        name: draw(small_rules(AXES[name].space(shape).units, steps, AXES[name].laws))
        for name in draw(st.lists(st.sampled_from(sorted(AXES)), min_size=1, max_size=2, unique=True))
        if not AXES[name].misfit(shape)
    }
    stage = BoundStage(start=5, stop=5 + steps, duration=Fraction(steps), axes=axes)
    return shape, draw(with_full(stage, shape))


@st.composite
def small_rules(draw: st.DrawFn, n: int, steps: int, laws: Collection[str] | None) -> BoundRule:
    names = [name for name in ("bernoulli", "systematic", "fixed", "prefix") if laws is None or name in laws]
    law = LAWS[draw(st.sampled_from(names))]()  # pyright: ignore
    keep = draw(st.sampled_from([(), (), (n - 1,)]))
    every = draw(st.sampled_from([1, 2, None]))
    common = {"law": law, "keep": keep, "every": every}
    if not law.exact and n > 1:
        common["profile"] = draw(st.sampled_from([Profile(), Profile(kind="linear")]))
    if draw(st.booleans()):
        return BoundRule(choices=tuple(draw(st.lists(st.integers(max(1, n - 1), n), min_size=1, max_size=3))), **common)
    size = st.integers(1, n).map(Fraction)
    if not law.exact:
        size = st.fractions(Fraction(n) * 3 / 4, n, max_denominator=4)
    first, second = draw(size), draw(size)
    at = 1 if every == 1 else 2
    borders = [Border(offset=0, value=first)]
    if every and at < steps and second != first:
        borders.append(Border(offset=at, value=second))
    rule = BoundRule(sizes=tuple(borders), **common)
    assume(all(len(keep) <= border.value for border in borders))
    return rule


@settings(max_examples=60, deadline=None)
@given(small_stages())
def test_the_variance_is_that_of_every_outcome_enumerated(drawn: tuple[ModelShape, BoundStage]) -> None:
    shape, stage = drawn
    for name, rule in stage.axes.items():
        assume(not any(rule.law.problems(pool) for pool in pools(rule, AXES[name].space(shape))))
    (variance,) = FlopSpread(shape, [stage]).variances()
    assert variance == enumerated(shape, stage)


def test_the_paper_s_definition() -> None:
    """Rule 26: n independent blocks with p = k/n have a variance of n·p·(1 − p) blocks a step."""
    text = "model layers=12 heads=12 hidden=768 ffn=3072 vocab=100 seq=8\nsteps 1000\nallow partial\n"
    plan = compile_text(text + "stage depth=6/12 sample=bernoulli steps=60%\nstage steps=rest")
    block = block_cost(plan.shape, {})
    assert FlopSpread(plan.shape, plan.stages).variances() == (600 * 12 * Fraction(1, 4) * block**2, 0)
    held = compile_text(text + "stage depth=6/12 sample=bernoulli every=20 steps=60%\nstage steps=rest")
    assert FlopSpread(held.shape, held.stages).variances() == (20 * 600 * 12 * Fraction(1, 4) * block**2, 0)


SIMULATED = {
    "all axes": "stage depth=2/3 heads=1/2 width=1/2 sample=bernoulli steps=100%",
    "held apart": "stage depth=2/3 heads=3/4 sample=bernoulli depth.every=3 heads.every=2 steps=100%",
    "held all along": "stage depth=2/3..3/3 heads=prob(1/2) sample=bernoulli heads.every=stage steps=100%",
    "systematic": "stage depth=40% depth.sample=systematic heads=30% heads.sample=bernoulli steps=100%",
    "drawn": "stage depth=draw(1/3, 2/3, 3/3) width=draw(1/4, 1/2) depth.every=2 steps=100%",
    "dealt": "stage depth=2/3 depth.sample=balanced heads=1/2 heads.sample=bernoulli steps=100%",
    "profile": "stage depth=prob(60%) depth.profile=linear width=1/2 sample=bernoulli width.every=5 steps=100%",
}


@pytest.mark.parametrize("name", SIMULATED)
def test_simulated_seeds_spread_as_they_should(name: str) -> None:
    text = (
        "model layers=3 heads=4 hidden=8 ffn=16 vocab=4 seq=4 width_group=4\nsteps 12\nallow partial\n"
        "default sample=fixed\n" + SIMULATED[name]
    )
    first = compile_text(text)
    (variance,) = FlopSpread(first.shape, first.stages).variances()
    assert variance is not None
    seeds = 400
    costs = [int(first.model_copy(update={"seed": seed}).flops(case="seed").blocks) for seed in range(seeds)]
    mean, expected = Fraction(sum(costs), seeds), first.flops().blocks
    found = sum((cost - mean) ** 2 for cost in costs) / (seeds - 1)
    assert abs(mean - expected) ** 2 < 16 * variance / seeds  # four standard errors
    assert Fraction(7, 10) < found / variance < Fraction(13, 10)  # four standard errors, near enough a normal law


def is_seen(axis: str, stage: BoundStage, part: Segment, layers: int) -> bool:
    """Whether some block that may run is not one of those in which all of an axis runs."""
    runs = marginals(part.axes.get("depth"), layers)
    return any(chance and block not in stage.axes[axis].full for block, chance in enumerate(runs))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(PARTS), min_size=1, unique=True).flatmap(lambda axes: any_plans(axes=tuple(axes))))
def test_the_variance_is_nothing_exactly_where_no_count_varies(plan: Plan) -> None:
    for stage, variance in zip(plan.stages, FlopSpread(plan.shape, plan.stages).variances(), strict=True):
        if variance is None:
            assert stage.axes["depth"].law.anchored
            continue
        single = plan.model_copy(update={"stages": (stage,)})
        worst = FlopSpread(single.shape, single.stages)
        varies = any(
            len(taken.possible) > 1 and is_seen(name, stage, part, plan.shape.layers)
            for part in segments(stage, plan.shape)
            for name, taken in part.axes.items()
        )
        assert (variance > 0) == varies
        assert worst.variances() == (variance,)


def test_where_rounds_and_longer_draws_meet_the_variance_is_not_known() -> None:
    text = "model layers=4 heads=4 hidden=8 ffn=8 vocab=4 seq=4\nsteps 12\nallow partial\n"
    stage = "stage depth=2/4 depth.sample=balanced heads=1/2 heads.sample=bernoulli heads.every={} steps=100%"
    known = [
        FlopSpread(plan.shape, plan.stages).variances()[0] is not None
        for plan in (compile_text(text + stage.format(every)) for every in (1, 2, "stage"))
    ]
    assert known == [True, False, False]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.lists(st.integers(1, 9), min_size=1, max_size=3))
def test_cells_are_what_no_border_divides(steps: int, every: list[int]) -> None:
    stage = BoundStage(start=7, stop=7 + steps, duration=Fraction(steps))
    shape = ModelShape(layers=1, heads=1, hidden=1, ffn=1, vocab=1, seq=1)
    squares = 0
    for pieces, times in cells(stage, list(segments(stage, shape)), every):
        squares += times * sum(length for length, _ in pieces) ** 2
    borders = sorted({0, steps, *(step for step in range(steps) if any(step % length == 0 for length in every))})
    assert squares == sum((stop - start) ** 2 for start, stop in pairwise(borders))


def test_what_trains_is_drawn_without_a_difference_or_with_one_that_is_not_known() -> None:
    text = "model layers=4 heads=4 hidden=8 ffn=8 vocab=4 seq=4\nsteps 12\nallow partial\n"
    plan = compile_text(
        text + "stage depth.train=fixed(2) steps=4\nstage depth=2/4 sample=bernoulli depth.train=fixed(2) steps=rest"
    )
    assert FlopSpread(plan.shape, plan.stages).variances() == (0, None)
    for seed in range(5):
        drawn = plan.model_copy(update={"seed": seed}).flops(case="seed")
        assert drawn.stages[0].blocks == plan.flops().stages[0].blocks
