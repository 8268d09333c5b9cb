"""Curves and their staircases (rules 15, 16, 17), against 90 digits of `decimal`, step by step."""

from decimal import ROUND_FLOOR, Context, Decimal, localcontext
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from raptr_dsl import enclosures
from raptr_dsl.curves import CURVES, Cbrt, Cosine, Curve, Exp, Exp2, Linear, Poly, Root
from raptr_dsl.ir.schedule import Profile
from raptr_dsl.profiles import profile_weights
from raptr_dsl.staircases import staircase
from tests.laws.drawn import curves

DIGITS = Context(prec=90)
NOTHING = Decimal(10) ** -70
"""Two values this close are the same number: a rational one that was computed by roots or cosines."""

unit_fractions = st.fractions(0, 1, max_denominator=10**6)


def decimal_pi() -> Decimal:
    """Gauss and Legendre: another way than the package's."""
    with localcontext(Context(prec=110)):
        a, b, t, p = Decimal(1), 1 / Decimal(2).sqrt(), Decimal("0.25"), 1
        for _ in range(8):
            a, b, t, p = (a + b) / 2, (a * b).sqrt(), t - p * ((a - b) / 2) ** 2, 2 * p
        return (a + b) ** 2 / (4 * t)


PI = decimal_pi()


def decimal_cosine(x: Decimal) -> Decimal:
    with localcontext(Context(prec=110)):
        term = total = Decimal(1)
        for index in range(1, 120, 2):
            term = -term * x * x / (index * (index + 1))
            total += term
        return total


def decimal_value(curve: Curve, u: Fraction) -> Decimal:
    """g(u) to about 90 digits."""
    with localcontext(DIGITS):
        x = Decimal(u.numerator) / Decimal(u.denominator)
        match curve:
            case Cosine():
                return (1 - decimal_cosine(PI * x)) / 2
            case Exp(rate=rate):
                return 1 - (-x * rate.numerator / rate.denominator).exp()
            case Exp2():
                return (x * Decimal(2).ln()).exp() - 1
            case Cbrt(begin=begin):
                first = Decimal(begin.numerator) / begin.denominator
                time = first**3 + (1 - first**3) * x
                root = (time.ln() / 3).exp() if time else time
                return (root - first) / (1 - first)
            case Poly(n=n) | Root(n=n):
                power = n if isinstance(curve, Poly) else 1 / n
                return (x.ln() * power.numerator / power.denominator).exp() if x else Decimal(0)
        return x


def decimal_floor(value: Decimal) -> int:
    nearest = value.to_integral_value()
    if abs(value - nearest) < NOTHING:
        return int(nearest)
    return int(value.to_integral_value(ROUND_FLOOR))


def naive(
    curve: Curve, start: Fraction, stop: Fraction, steps: int, every: int, rounding: str
) -> list[tuple[int, int]]:
    """Rule 16 as it is written: a level for each draw, then the places where it changes."""
    levels = []
    for step in range(0, steps, every):
        last = steps if curve.half_open else steps - 1
        u = Fraction(step, last) if last else Fraction(1)
        with localcontext(DIGITS):
            g = decimal_value(curve, u)
            a, b = (Decimal(end.numerator) / Decimal(end.denominator) for end in (start, stop))
            value = a + (b - a) * g
            if rounding == "nearest":
                level = decimal_floor(value + Decimal("0.5"))
            else:
                level = decimal_floor(value) if rounding == "floor" else -decimal_floor(-value)
        levels.append((step, level))
    return [levels[0], *(after for before, after in pairwise(levels) if before[1] != after[1])]


@settings(max_examples=150)
@given(
    curves(),
    st.fractions(0, 30, max_denominator=4),
    st.fractions(0, 30, max_denominator=4),
    st.integers(1, 60),
    st.integers(1, 9),
    st.sampled_from(["nearest", "floor", "ceil"]),
)
def test_rules_15_to_17_staircase_is_that_of_every_step(
    curve: Curve, start: Fraction, stop: Fraction, steps: int, every: int, rounding: str
) -> None:
    assert staircase(curve, start, stop, steps, every, rounding) == naive(curve, start, stop, steps, every, rounding)


@settings(max_examples=30)
@given(curves(), st.integers(0, 96), st.integers(0, 96), st.integers(10**6, 10**12), st.integers(1, 50), st.data())
def test_rule_16_borders_of_long_stages(
    curve: Curve, start: int, stop: int, steps: int, every: int, data: st.DataObject
) -> None:
    """At each border and in the draw before it the level is the exact one."""
    borders = staircase(curve, Fraction(start), Fraction(stop), steps, every)
    assert len(borders) <= abs(stop - start) + 1 and all(offset % every == 0 for offset, _ in borders)
    for offset, level in data.draw(st.permutations(borders))[:5]:
        last = steps if curve.half_open else steps - 1
        for at, expected in ((offset, True), (offset - every, False)):
            if at < 0:
                continue
            with localcontext(DIGITS):
                value = start + (stop - start) * decimal_value(curve, Fraction(at, last))
                assert (decimal_floor(value + Decimal("0.5")) == level) is expected


def test_rule_15_u_ends_at_1_but_for_exp_and_cbrt() -> None:
    assert staircase(Linear(), Fraction(1), Fraction(3), 3)[-1] == (2, 3)
    assert staircase(Linear(), Fraction(1), Fraction(3), 1) == [(0, 3)]
    assert staircase(Exp(rate=Fraction(9)), Fraction(1), Fraction(3), 1) == [(0, 1)]
    assert staircase(Cbrt(begin=Fraction(0)), Fraction(1), Fraction(3), 1) == [(0, 1)]
    halves = Exp(rate=Fraction(1))  # g = 1 − e^(−t/4) in four steps: 0, .22, .39, .53
    assert staircase(halves, Fraction(0), Fraction(10), 4) == [(0, 0), (1, 2), (2, 4), (3, 5)]


def test_rule_16_ties_go_up() -> None:
    rising = staircase(Linear(), Fraction(0), Fraction(1), 3)  # ½ at step 1
    falling = staircase(Linear(), Fraction(1), Fraction(0), 3)
    assert (rising, falling) == ([(0, 0), (1, 1)], [(0, 1), (2, 0)])
    assert staircase(Cosine(), Fraction(0), Fraction(2), 4) == [(0, 0), (1, 1), (2, 2)]  # ½ and 1½ exactly, at u = ⅓, ⅔
    assert staircase(Root(n=Fraction(2)), Fraction(0), Fraction(3), 37) == [(0, 0), (1, 1), (9, 2), (25, 3)]


def test_rule_17_the_size_is_read_at_a_draws_first_step() -> None:
    assert staircase(Linear(), Fraction(0), Fraction(9), 10, every=4) == [(0, 0), (4, 4), (8, 8)]


def test_rule_16_pld_of_its_paper() -> None:
    """θ(t) falls from 1 to ½ as e^(−100·t/T), to 1/1024: half of the way down at t = T·ln 2/100."""
    borders = staircase(Exp(rate=Fraction(100)), Fraction(1024), Fraction(512), 10**6)
    assert borders[0] == (0, 1024) and borders[-1][1] == 512
    halfway = next(offset for offset, level in borders if level == 768)
    assert abs(halfway - 6931.47) < 20


def test_time_does_not_grow_with_steps() -> None:
    """10^15 steps would not be stepped through."""
    for curve in (Linear(), Cosine(), Exp2(), Poly(n=Fraction(7, 2)), Exp(rate=Fraction(10**6))):
        assert len(staircase(curve, Fraction(0), Fraction(64), 10**15)) <= 65


@settings(max_examples=200)
@given(curves(), unit_fractions, st.sampled_from([8, 64, 200]))
def test_rule_16_bounds_hold_the_value(curve: Curve, u: Fraction, bits: int) -> None:
    exact = curve.exact(u)
    with localcontext(DIGITS):
        value = decimal_value(curve, u)
        if exact is not None:
            assert abs(Decimal(exact.numerator) / exact.denominator - value) < NOTHING
            return
        low, high = curve.bounds(u, bits)
        assert low <= value * (1 << bits) <= high and high - low <= 3


@given(curves(), unit_fractions)
def test_irrational_values_are_the_nearest_multiple_of_2_to_the_minus_256(curve: Curve, u: Fraction) -> None:
    value = curve.value(u)
    if curve.exact(u) is not None:
        assert value == curve.exact(u)
        return
    assert (value * 2**256).denominator == 1
    low, high = (Fraction(bound, 2**400) for bound in curve.bounds(u, 400))
    half = Fraction(1, 2**257)
    assert value - half < low <= high < value + half


@given(st.integers(0, 10**60), st.integers(1, 64))
def test_integer_root(x: int, degree: int) -> None:
    root = enclosures.integer_root(x, degree)
    assert root**degree <= x < (root + 1) ** degree


@pytest.mark.parametrize("bits", [10, 64, 300])
def test_pi_of_machin_is_pi_of_gauss(bits: int) -> None:
    with localcontext(Context(prec=110)):
        assert abs(enclosures.pi(bits) - PI * (1 << bits)) < 4


BAD: list[tuple[type[Curve], dict[str, Any]]] = [
    (Exp, {"rate": Fraction(0)}),
    (Exp, {"rate": Fraction(-1)}),
    (Exp, {"rate": Fraction(10**6 + 1)}),
    (Exp, {}),
    (Root, {"n": Fraction(0)}),
    (Poly, {"n": Fraction(65)}),
    (Poly, {"n": "1e9"}),
    (Linear, {"rate": 3}),
    (Cbrt, {"begin": Fraction(1)}),
    (Cbrt, {"begin": Fraction(-1, 8)}),
]


@pytest.mark.parametrize(("curve", "arguments"), BAD)
def test_parameters_out_of_range_are_refused(curve: type[Curve], arguments: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        curve(**arguments)


def test_every_curve_is_registered_by_its_name() -> None:
    assert sorted(CURVES) == ["cbrt", "cosine", "exp", "exp2", "linear", "poly", "root"]
    assert {name: cls.parameter for name, cls in CURVES.items() if cls.parameter} == {
        "cbrt": "begin",
        "exp": "rate",
        "poly": "n",
        "root": "n",
    }


def test_rule_26_weights_of_profiles() -> None:
    assert profile_weights(Profile(), 3) is None
    assert profile_weights(Profile(kind="linear"), 4) == tuple(Fraction(u, 4) for u in (1, 2, 3, 4))
    assert profile_weights(Profile(kind="list", weights=(Fraction(1), Fraction(1, 2))), 2) == (1, Fraction(1, 2))
    ramp = Profile(kind="curve", curve=Linear(), start=Fraction(0), stop=Fraction(1, 2))
    assert profile_weights(ramp, 3) == (0, Fraction(1, 4), Fraction(1, 2))
    assert profile_weights(ramp, 1) == (Fraction(1, 2),)
    skip = profile_weights(Profile(kind="curve", curve=Exp2()), 5)  # LayerSkip's D(l) = e^(l·ln 2/(L − 1)) − 1
    assert skip is not None and skip[0] == 0 and skip[4] == 1
    assert [float(weight) for weight in skip] == pytest.approx([2 ** (layer / 4) - 1 for layer in range(5)])
