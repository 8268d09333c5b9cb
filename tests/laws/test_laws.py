"""What laws draw (rules 20–28), against the oracle in plain Python and by the properties they promise."""

from fractions import Fraction
from math import ceil, floor, gcd
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from raptr_dsl.axes import AXES
from raptr_dsl.curves import Exp2
from raptr_dsl.ir.bound import Border, BoundRule, BoundStage
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import Plan
from raptr_dsl.ir.schedule import Profile
from raptr_dsl.laws import LAWS, Pool, Weights
from raptr_dsl.sampling import pools
from tests.laws import drawn, oracle


def depth_plan(law: str, n: int, size: object, steps: int = 4000, keep: tuple[int, ...] = (), **rule: Any) -> Plan:
    """A plan of one stage that thins a stack of n blocks."""
    arguments = rule.pop("arguments", {})
    shape = ModelShape(layers=n, heads=2, hidden=8, ffn=8, vocab=5, seq=4)
    bound = BoundRule(
        law=LAWS[law](**arguments),
        keep=keep,
        sizes=(Border(offset=0, value=Fraction(size)),),
        **rule,  # pyright: ignore
    )
    stage = BoundStage(start=0, stop=steps, duration=Fraction(steps), axes={"depth": bound})
    return Plan(name="test", seed=17, shape=shape, steps=steps, partial=True, stages=(stage,))


def size_pools(plan: Plan) -> list[tuple[str, BoundRule, Pool]]:
    return [
        (name, rule, pool)
        for stage in plan.stages
        for name, rule in stage.axes.items()
        for pool in pools(rule, AXES[name].space(plan.shape))
    ]


@pytest.mark.parametrize("law", sorted(drawn.RULES), ids=lambda law: f"rule_{drawn.RULES[law]}_{law}")
@settings(max_examples=40)
@given(data=st.data())
def test_rules_22_to_27_masks_are_the_oracles(law: str, data: st.DataObject) -> None:
    plan = data.draw(drawn.plans(law, axes=("depth", "width") if data.draw(st.booleans()) else ("heads",)))
    for axis in plan.stages[0].axes:
        masks = plan.masks(axis)
        for step in range(plan.steps):
            expected = oracle.mask(plan, axis, step)
            assert masks[step].reshape(len(expected), -1).tolist() == expected


@pytest.mark.parametrize("law", sorted(set(LAWS) - {"ranked"}))
def test_rules_22_to_27_masks_of_96_blocks(law: str) -> None:
    """Large enough that sorting and partitioning do not take their short ways."""
    arguments = {"groups": 4} if law == "stratified" else {}
    plan = depth_plan(law, 96, 48, 600, (0, 95), arguments=arguments)
    masks = plan.masks("depth")
    for step in (0, 1, 2, 299, 598, 599):
        assert [masks[step].tolist()] == oracle.mask(plan, "depth", step)


@settings(max_examples=60)
@given(drawn.plans(), st.data())
def test_rule_20_one_step_is_one_row_of_any_range(plan: Plan, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, plan.steps - 1))
    stop = data.draw(st.integers(start, plan.steps))
    for axis in AXES:
        whole = plan.masks(axis)
        assert (plan.masks(axis, start, stop) == whole[start:stop]).all()
        for step in data.draw(st.permutations(range(plan.steps)))[:12]:
            found = plan.step(step)
            on = found.axes[axis].on if axis in found.axes else np.ones_like(whole[step])
            assert (on.reshape(whole[step].shape) == whole[step]).all()


@settings(max_examples=40)
@given(drawn.plans())
def test_rules_6_and_22_to_25_exactly_k_and_the_kept_ones(plan: Plan) -> None:
    for stage in plan.stages:
        for name, rule in stage.axes.items():
            masks = plan.masks(name, stage.start, stage.stop).reshape(
                stage.steps, -1, AXES[name].space(plan.shape).units
            )
            assert masks[..., list(rule.keep)].all()
            sites = np.arange(masks.shape[1])
            is_full = np.isin(sites % plan.shape.layers, rule.full)
            assert masks[:, is_full].all()
            counts = masks[:, ~is_full].sum(-1)
            bounds = [rule.law.counts(pool) for pool in pools(rule, AXES[name].space(plan.shape))]
            assert counts.min() >= min(low for low, _ in bounds) and counts.max() <= max(high for _, high in bounds)
            if rule.law.exact and rule.sizes:
                expected = [
                    [border.value for border in rule.sizes if border.offset <= step][-1] for step in range(stage.steps)
                ]
                assert (counts == np.array([int(size) for size in expected])[:, None]).all()


@settings(max_examples=100)
@given(st.integers(1, 24), st.data())
def test_rule_23_balanced_gives_each_unit_its_share_to_within_one(n: int, data: st.DataObject) -> None:
    keep = tuple(sorted(data.draw(st.sets(st.integers(0, n - 1), max_size=n - 1))))
    k = data.draw(st.integers(max(1, len(keep)), n))
    every = data.draw(st.sampled_from([1, 3]))
    plan = depth_plan("balanced", n, k, 60 * every, keep, every=every)
    masks = plan.masks("depth")[::every]
    pool, quota = n - len(keep), k - len(keep)
    ran = masks[:, [unit for unit in range(n) if unit not in keep]].cumsum(0)
    draws = np.arange(1, len(masks) + 1)[:, None]
    assert (ran >= draws * quota // pool).all() and (ran <= -(-draws * quota // pool)).all()
    if not quota:
        return
    longest = 2 * (-(-pool // quota) - 1)
    for unit in range(n):
        rests = "".join("1" if on else "0" for on in masks[:, unit]).split("1")
        assert max(map(len, rests)) <= longest
    length = pool // gcd(pool, quota)
    assert LAWS["balanced"]().round_length(Pool(n, keep, Fraction(k))) == length  # pyright: ignore[reportCallIssue]
    assert (ran[length - 1 :: length] == ran[length - 1 :: length, :1]).all()


def test_rule_23_segments_begin_anew() -> None:
    """A size that changes begins a new segment, whose first round is dealt at its first step."""
    borders = (Border(offset=0, value=Fraction(3)), Border(offset=5, value=Fraction(2)))
    plan = depth_plan("balanced", 6, 3, 12)
    rule = plan.stages[0].axes["depth"].model_copy(update={"sizes": borders})
    both = plan.model_copy(update={"stages": (plan.stages[0].model_copy(update={"axes": {"depth": rule}}),)})
    assert (both.masks("depth", 0, 5) == plan.masks("depth", 0, 5)).all()
    stages = (
        plan.stages[0].model_copy(update={"stop": 5}),
        BoundStage(
            start=5,
            stop=12,
            duration=Fraction(7),
            axes={"depth": rule.model_copy(update={"sizes": (Border(offset=0, value=Fraction(2)),)})},
        ),
    )
    assert (both.masks("depth") == plan.model_copy(update={"stages": stages}).masks("depth")).all()


@given(st.integers(2, 12), st.integers(2, 8), st.data())
def test_rule_24_rotate_covers_every_pair_of_block_and_unit(blocks: int, units: int, data: st.DataObject) -> None:
    """While depth rotates, width waits a round of depth at each of its positions: all pairs run, equally often."""
    k, q = data.draw(st.integers(1, blocks - 1)), data.draw(st.integers(1, units - 1))
    depth_round, width_round = blocks // gcd(blocks, k), units // gcd(units, q)
    steps = depth_round * width_round
    shape = ModelShape(layers=blocks, heads=2, hidden=8, ffn=units, width_group=1, vocab=5, seq=4)
    rotate = LAWS["rotate"]()  # pyright: ignore[reportCallIssue]
    axes = {
        name: BoundRule(law=rotate, sizes=(Border(offset=0, value=Fraction(size)),))
        for name, size in (("depth", k), ("width", q))
    }
    stage = BoundStage(start=0, stop=steps, duration=Fraction(steps), axes=axes)
    plan = Plan(name="test", seed=1, shape=shape, steps=steps, partial=True, stages=(stage,))
    ran = (plan.masks("depth")[:, :, None] & plan.masks("width")).sum(0)
    assert (ran == steps * k * q // (blocks * units)).all()


@given(st.integers(1, 6), st.integers(1, 6), st.data())
def test_rule_25_stratified_is_equal_in_every_group(groups: int, length: int, data: st.DataObject) -> None:
    n, share = groups * length, data.draw(st.integers(1, length))
    keep = tuple(
        group * length + unit
        for group in range(groups)
        for unit in sorted(data.draw(st.sets(st.integers(0, length - 1), max_size=share)))
    )
    plan = depth_plan("stratified", n, share * groups, 50, keep, arguments={"groups": groups})
    counts = plan.masks("depth").reshape(50, groups, length).sum(-1)
    assert (counts == share).all() and plan.masks("depth")[:, list(keep)].all()


def test_rule_25_a_group_filled_by_kept_units_ignores_a_word_of_zeros() -> None:
    law = LAWS["stratified"](groups=2)  # pyright: ignore[reportCallIssue]
    on = law.sampler(Pool(4, (1,), Fraction(2)))(with_words([[0, 5, 7, 9]]))
    assert on[0].tolist() == [[False, True, True, False]]


class StandIn:
    """Words given by hand: what a stream gives once in 2^48 draws."""

    def __init__(self, words: list[list[int]], reserved: int = 0) -> None:
        self._rows = np.array([[word for site in words for word in site] + [reserved]], np.uint64)
        self.sites, self.units = len(words), len(words[0])

    def rows(self, steps: range) -> Any:
        return self._rows

    def of_units(self, rows: Any) -> Any:
        return rows[:, :-1].reshape(-1, self.sites, self.units)

    def reserved(self, rows: Any) -> Any:
        return rows[:, -1]


def with_words(words: list[list[int]], reserved: int = 0) -> Any:
    from raptr_dsl.laws import Draws

    return Draws(StandIn(words, reserved), range(1), 0)  # pyright: ignore[reportArgumentType]


def on_units(law: str, pool: Pool, words: list[int], reserved: int = 0, **arguments: object) -> list[int]:
    found = LAWS[law](**arguments).sampler(pool)(with_words([words], reserved))  # pyright: ignore[reportCallIssue]
    return found[0, 0].nonzero()[0].tolist()


def test_rule_21_equal_words_are_ranked_by_unit() -> None:
    low = 0xFFFF  # replaced by the unit
    assert on_units("fixed", Pool(4, (), Fraction(2)), [5, 5 | low, 5, 5]) == [0, 1]
    assert on_units("fixed", Pool(4, (0,), Fraction(2)), [9, 0, 0, 0]) == [0, 1]
    assert on_units("fixed", Pool(3, (2,), Fraction(2)), [0, 0, 0]) == [0, 2]
    assert on_units("balanced", Pool(3, (2,), Fraction(2)), [0, 0, 0]) == [0, 2]
    top = 2**64 - 1
    assert on_units("fixed", Pool(3, (1,), Fraction(2)), [top, top, top]) == [0, 1]


def test_rule_27_a_word_is_compared_with_the_floor_of_p() -> None:
    pool = Pool(3, (), Fraction(1))  # p = 1/3
    below = 2**64 // 3
    assert on_units("bernoulli", pool, [below - 1, below, below + 1]) == [0]


def test_rule_27_none_on_is_legal() -> None:
    assert on_units("bernoulli", Pool(3, (), Fraction(1)), [2**64 - 1] * 3) == []


@pytest.mark.parametrize("law", drawn.RANDOM)
def test_rule_26_bernoulli_and_systematic_have_their_marginals(law: str) -> None:
    """Frequencies over 40,000 draws of one seed: six standard deviations."""
    steps = 40_000
    for profile in (Profile(), Profile(kind="linear"), Profile(kind="curve", curve=Exp2())):
        plan = depth_plan(law, 12, 9, steps, (0,), profile=profile)
        rule = plan.stages[0].axes["depth"]
        expected = np.array([float(p) for p in rule.law.marginals(size_pools(plan)[0][2])])
        masks = plan.masks("depth")
        tolerance = 6 * np.sqrt(expected * (1 - expected) / steps)
        assert (abs(masks.mean(0) - expected) <= tolerance).all()
        assert abs(masks.sum(-1).mean() - 9) < 0.05


@settings(max_examples=60)
@given(st.integers(1, 10), st.data())
def test_rule_26_systematic_counts_are_the_mean_rounded(n: int, data: st.DataObject) -> None:
    profile = data.draw(drawn.profiles(n))
    size = data.draw(st.fractions(1, n, max_denominator=6))
    rule = BoundRule(law=LAWS["systematic"](), profile=profile, sizes=(Border(offset=0, value=size),))  # pyright: ignore
    space = AXES["depth"].space(ModelShape(layers=n, heads=1, hidden=2, ffn=2, vocab=2, seq=1))
    pool = next(pools(rule, space))
    assume(not rule.law.problems(pool))
    plan = depth_plan("systematic", n, size, 64, profile=profile)
    counts = set(plan.masks("depth").sum(-1).tolist())
    assert counts <= {floor(size), ceil(size)}
    assert sum(rule.law.marginals(pool)) == size


@settings(max_examples=60)
@given(st.lists(st.fractions(0, 1, max_denominator=20), min_size=1, max_size=6), st.permutations(range(6)))
def test_rule_26_systematic_marginals_are_exact(chances: list[Fraction], order: list[int]) -> None:
    """Over all offsets of the common denominator, every unit is on in exactly its share of them."""
    from math import lcm

    n = len(chances)
    weights = tuple(1 - p for p in chances)
    assume(any(weights))
    size = sum(chances, Fraction(0))
    pool = Pool(n, (), size, Weights(weights, ()))
    common = lcm(*(p.denominator for p in LAWS["systematic"]().marginals(pool)))  # pyright: ignore[reportCallIssue]
    assume(common <= 500 and size >= 1)
    words = [rank << 32 for rank in sorted(range(n), key=lambda unit: order[unit])]
    counts = [0] * n
    for offset in range(common):
        for unit in on_units("systematic", pool, words, reserved=-(-(offset << 64) // common)):
            counts[unit] += 1
    assert [Fraction(count, common) for count in counts] == chances


NEAR = sorted(sign * 2**bits for bits in (0, 17, 18, 20, 26, 30, 32, 34) for sign in (-1, 1))


@settings(max_examples=60)
@given(st.integers(2, 40), st.integers(0, 2**64 - 1), st.integers(1, 7), st.data())
def test_rule_26_systematic_with_large_denominators(n: int, seed: int, size: int, data: st.DataObject) -> None:
    """The filter of approximate sums against exact ones, at offsets where sums come close to whole numbers, too."""
    assume(size < n)
    bits = data.draw(st.sampled_from([27, 30, 34, 40, 71]))
    weights = tuple(Fraction(data.draw(st.integers(2 ** (bits - 1), 2**bits)), 2**bits) for _ in range(n))
    pool = Pool(n, (), Fraction(size), Weights(weights, ()))
    law = LAWS["systematic"]()  # pyright: ignore[reportCallIssue]
    assume(not law.problems(pool))
    chances = law.marginals(pool)
    words = data.draw(st.lists(st.integers(0, 2**64 - 1), min_size=n, max_size=n))
    order = oracle.by_key(list(range(n)), words)
    place = data.draw(st.integers(0, n - 1))
    sums = sum((chances[unit] for unit in order[: place + 1]), Fraction(0))
    near = floor((1 - sums % 1) * 2**64)
    for reserved in (seed, *(max(0, min(2**64 - 1, near + step)) for step in NEAR)):
        expected, total = set(), Fraction(reserved, 2**64)
        for unit in order:
            if floor(total + chances[unit]) > floor(total):
                expected.add(unit)
            total += chances[unit]
        assert set(on_units("systematic", pool, words, reserved)) == expected


@settings(max_examples=60)
@given(drawn.plans())
def test_rule_28_marginals_add_up_to_the_size(plan: Plan) -> None:
    for _, rule, pool in size_pools(plan):
        marginals = rule.law.marginals(pool)
        assert len(marginals) == pool.n and sum(marginals) == pool.size
        assert all(0 <= p <= 1 for p in marginals) and all(marginals[unit] == 1 for unit in pool.keep)
        if rule.law.law == "bernoulli":
            assert rule.law.counts(pool) == (marginals.count(Fraction(1)), pool.n - marginals.count(Fraction(0)))


@pytest.mark.parametrize("law", ["fixed", "balanced", "window", "rotate"])
def test_rule_28_marginals_are_the_frequencies(law: str) -> None:
    plan = depth_plan(law, 10, 4, 20_000, (0, 9))
    expected = [float(p) for p in LAWS[law]().marginals(Pool(10, (0, 9), Fraction(4)))]  # pyright: ignore
    assert expected == [1.0] + [0.25] * 8 + [1.0]
    assert abs(plan.masks("depth").mean(0) - expected).max() < 6 * 0.0031


def test_rule_28_stratified_marginals_are_by_group() -> None:
    law = LAWS["stratified"](groups=2)  # pyright: ignore[reportCallIssue]
    assert law.marginals(Pool(6, (0,), Fraction(4))) == (1, *[Fraction(1, 2)] * 2, *[Fraction(2, 3)] * 3)


@given(st.integers(1, 12), st.integers(0, 2**64 - 1), st.data())
def test_rule_7_one_drawn_size_for_all_sites(n: int, seed: int, data: st.DataObject) -> None:
    choices = tuple(data.draw(st.lists(st.integers(1, n), min_size=2, max_size=5)))
    shape = ModelShape(layers=3, heads=1, hidden=2, ffn=n, width_group=1, vocab=2, seq=1)
    rule = BoundRule(law=LAWS["prefix"](), choices=choices, every=2)  # pyright: ignore[reportCallIssue]
    stage = BoundStage(start=0, stop=30, duration=Fraction(30), axes={"width": rule})
    plan = Plan(name="test", seed=seed, shape=shape, steps=30, partial=True, stages=(stage,))
    for step in range(30):
        reserved = oracle.words_of_step(seed, "width", 3, n, step // 2 * 2)[-1]
        assert plan.masks("width")[step].sum(-1).tolist() == [choices[oracle.below(len(choices), reserved)]] * 3


HALF, ONE = Fraction(6), Fraction(1)
RISING = tuple(Fraction(unit + 1, 4) for unit in range(4))
BAD = {
    "groups do not divide the units": ("stratified", {"groups": 5}, Pool(12, (), HALF), "5 does not divide the 12"),
    "groups do not divide the size": ("stratified", {"groups": 4}, Pool(12, (), HALF), "does not divide the size"),
    "too many kept in a group": ("stratified", {"groups": 2}, Pool(4, (0, 1), 2 * ONE), "2 units in group 0"),
    "order too short": ("ranked", {"order": (0, 1)}, Pool(3, (), ONE), "lacks unit 2"),
    "order with a unit twice": ("ranked", {"order": (0, 1, 1)}, Pool(3, (), ONE), "unit 1 more than once"),
    "order beyond the units": ("ranked", {"order": (0, 1, 9)}, Pool(3, (), ONE), "names unit 9"),
    "mean out of reach": ("bernoulli", {}, Pool(4, (), ONE, Weights(RISING, ())), "unit 3 would be on"),
    "weights all zero": ("bernoulli", {}, Pool(2, (), ONE, Weights((0 * ONE,) * 2, ())), "weight is 0"),
    "negative weight": ("systematic", {}, Pool(2, (), ONE, Weights((ONE, -ONE), ())), "negative"),
    "weights of another model": ("systematic", {}, Pool(2, (), ONE, Weights((ONE,), ())), "1 weights"),
}


@pytest.mark.parametrize(("law", "arguments", "pool", "words"), BAD.values(), ids=BAD)
def test_what_a_law_cannot_draw_is_said_in_words(law: str, arguments: dict[str, Any], pool: Pool, words: str) -> None:
    problems = LAWS[law](**arguments).problems(pool)
    assert problems and words in " ".join(problems)


@pytest.mark.parametrize(
    ("law", "arguments"), [("stratified", {"groups": 0}), ("ranked", {"order": ()}), ("ranked", {"order": (-1,)})]
)
def test_parameters_out_of_range_are_refused(law: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        LAWS[law](**arguments)


def test_every_law_says_what_it_is() -> None:
    assert sorted(LAWS) == sorted(drawn.RULES)
    assert all(law.summary for law in LAWS.values())
