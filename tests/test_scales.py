"""Factors of active units (rules 29, 30)."""

from fractions import Fraction
from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raptr_dsl.axes import AXES
from raptr_dsl.laws import LAWS, Pool
from raptr_dsl.scales import SCALES, evaluator, factors
from tests.laws import drawn

masks = st.integers(1, 10).flatmap(
    lambda n: st.lists(st.lists(st.booleans(), min_size=n, max_size=n), min_size=1, max_size=4)
)


def exact(scale: str, on: list[bool], by_gap: bool = True, marginals: list[Fraction] | None = None) -> list[Fraction]:
    return list(factors(scale, by_gap, on, marginals or [Fraction(1)] * len(on)).values)


def test_rule_29_depth_as_tabled() -> None:
    on = [True, False, False, True, True, False]
    gaps, zero = [3, 0, 0, 1, 2, 0], Fraction(0)
    assert exact("none", on) == [1, 0, 0, 1, 1, 0]
    assert exact("linear", on) == gaps
    assert exact("sqrt", on) == gaps and factors("sqrt", True, on, [zero] * 6).squared
    assert exact("sqrt_ratio", on) == [2, 0, 0, 2, 2, 0] and factors("sqrt_ratio", True, on, [zero] * 6).squared
    assert not factors("linear", True, on, [zero] * 6).squared
    chances = [Fraction(1), zero, zero, Fraction(2, 3), Fraction(1, 3), zero]
    assert exact("inverse", on, marginals=chances) == [1, 0, 0, Fraction(3, 2), 3, 0]


def test_rule_29_per_block_axes_scale_by_the_ratio() -> None:
    on = [True, False, True, False, True]
    third = Fraction(5, 3)
    for scale in ("sqrt", "sqrt_ratio", "linear"):
        assert exact(scale, on, by_gap=False) == [third, 0, third, 0, third]
        assert factors(scale, False, on, [Fraction(1)] * 5).squared is (scale != "linear")


@given(masks, st.sampled_from(sorted(SCALES)), st.booleans(), st.data())
def test_rule_30_float64_of_the_exact_factors(
    sites: list[list[bool]], scale: str, by_gap: bool, data: st.DataObject
) -> None:
    """One division, at most one root, both as IEEE rounds them."""
    n = len(sites[0])
    chances = data.draw(st.lists(st.fractions(Fraction(1, 9), 1, max_denominator=90), min_size=n, max_size=n))
    found = evaluator(scale, by_gap, chances)(np.array(sites))
    assert found.dtype == np.float64
    for site, row in zip(sites, found.tolist(), strict=True):
        values = factors(scale, by_gap, site, chances)
        divided = [value.numerator / value.denominator for value in values.values]
        assert row == [sqrt(value) if values.squared else value for value in divided]


@pytest.mark.parametrize("scale", sorted(SCALES))
@pytest.mark.parametrize("axis", sorted(AXES))
def test_rule_29_at_full_size_every_factor_is_1(scale: str, axis: str) -> None:
    on = np.ones((3, 7), np.bool_)
    marginals = LAWS["fixed"]().marginals(Pool(7, (2,), Fraction(7)))  # pyright: ignore[reportCallIssue]
    assert (evaluator(scale, AXES[axis].units_are_blocks, marginals)(on) == 1).all()


@pytest.mark.parametrize("scale", sorted(SCALES))
@pytest.mark.parametrize("by_gap", [True, False])
def test_rule_27_with_nothing_on_there_is_nothing_to_scale(scale: str, by_gap: bool) -> None:
    for sites in (1, 3):
        factors = evaluator(scale, by_gap, [Fraction(1, 2)] * 4)(np.zeros((sites, 4), np.bool_))
        assert factors.tolist() == [[0.0] * 4] * sites


@given(drawn.plans())
def test_rules_29_and_30_steps_carry_the_factors_of_their_masks(plan) -> None:  # type: ignore[no-untyped-def]
    for step in range(0, plan.steps, 3):
        found = plan.step(step)
        stage = plan.stages[found.stage]
        assert set(found.axes) == set(stage.axes)
        for name, mask in found.axes.items():
            rule, by_gap = stage.axes[name], AXES[name].units_are_blocks
            assert ((mask.scale > 0) == mask.on).all()
            assert mask.full == bool(mask.on.all() and (mask.scale == 1).all())
            if rule.scale != "inverse":
                expected = evaluator(rule.scale, by_gap, [])(mask.on)
                assert (mask.scale == expected).all()
            assert [mask.active(site).tolist() for site in range(len(mask.on))] == [
                np.flatnonzero(row).tolist() for row in mask.on
            ]


def test_rule_29_inverse_makes_the_mean_1() -> None:
    from tests.laws.test_laws import depth_plan

    plan = depth_plan("bernoulli", 6, 4, 4000, (0,), scale="inverse")
    mean = sum(plan.step(step).axes["depth"].scale[0] for step in range(4000)) / 4000
    assert abs(mean - 1).max() < 0.08
