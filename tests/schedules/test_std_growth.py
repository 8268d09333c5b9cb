"""Published methods that grow, freeze or thin data, each against its rule; and what importing does to any of them."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raptr_dsl import compile_file
from raptr_dsl.api import Options, check_text
from raptr_dsl.resources import schedule_directory
from tests.schedules.plans import LONG, T, layer_map, plan_of, shape, sizes


def test_progressive_stacking() -> None:
    """Gong et al.: 3-6-12, block i of the larger stack is block i mod L of the smaller."""
    plan = plan_of("progressive_stacking")
    assert [size for _, size in sizes(plan)] == [3, 6, 12]
    assert layer_map(plan, 1) == [i % 3 for i in range(6)]
    assert layer_map(plan, 2) == [i % 6 for i in range(12)]


def test_gradual_stacking() -> None:
    """Reddi et al.: 6-9-12, the last three blocks are copied on top; the learning rate climbs again."""
    plan = plan_of("gradual_stacking")
    assert sizes(plan) == [(400, 6), (400, 9), (400, 12)]
    assert layer_map(plan, 1) == [*range(6), 3, 4, 5]
    assert layer_map(plan, 2) == [*range(9), 6, 7, 8]
    assert 1 / plan.flops().ratio_blocks == Fraction(4, 3)
    assert plan.rate_factor(400) < plan.rate_factor(405) < 1


@pytest.mark.parametrize(("a", "speed_up"), [(1, "1.385"), (2, "1.238"), (3, "1.163")])
def test_midas(a: int, speed_up: str) -> None:
    """Saunshi et al.: T_i = i^a / Σ j^a · T, blocks of 4; the middle one of n is doubled."""
    total = sum(i**a for i in range(1, 7))
    steps = 36 * total  # whole stages
    plan = plan_of("midas", 24, steps, a=str(a))
    assert sizes(plan) == [(36 * i**a, 4 * i) for i in range(1, 7)]
    assert f"{float(1 / plan.flops().ratio_blocks):.3f}" == speed_up
    for stage in range(1, 6):
        old = list(range(4 * stage))
        end = -(-stage // 2) * 4  # of the middle of `stage` groups of four
        assert layer_map(plan, stage) == [*old[:end], *old[end - 4 : end], *old[end:]]


def test_mslt() -> None:
    """Yang et al.: only the blocks that were just added train, and all of them at the end."""
    plan = plan_of("mslt")
    for stage, trained in zip(plan.stages, (range(3), range(3, 6), range(6, 9), range(9, 12), range(12)), strict=True):
        assert set(plan.trained("depth", stage.start, stage.start + 1)[0].nonzero()[0]) >= set(trained)
        ran = plan.masks("depth", stage.start, stage.start + 1)[0]
        both = ran & plan.trained("depth", stage.start, stage.start + 1)[0]
        assert list(both.nonzero()[0]) == list(trained)


def test_matformer() -> None:
    """Devvrit et al.: prefixes of 1/8, 1/4, 1/2 and all of the hidden units, each equally often, one a step."""
    plan = plan_of("matformer")
    mask = plan.masks("width")
    count = mask.sum(2)
    assert (count == count[:, :1]).all()  # the same in every block
    units = mask.shape[2]
    sizes_seen, times = np.unique(count[:, 0], return_counts=True)
    assert [Fraction(int(size), units) for size in sizes_seen] == [Fraction(1, 8), Fraction(1, 4), Fraction(1, 2), 1]
    assert np.abs(times - T / 4).max() < 5 * math.sqrt(T / 4)
    assert all(mask[step, 0, : count[step, 0]].all() for step in range(0, T, 50))


def test_lisa() -> None:
    """Pan et al.: every 20 steps two blocks are drawn to train; all run in every step."""
    plan = plan_of("lisa")
    assert plan.masks("depth").all()
    trained = plan.trained("depth").reshape(T // 20, 20, 12)
    assert (trained == trained[:, :1]).all()
    assert (trained[:, 0].sum(1) == 2).all()
    assert trained[:, 0].any(0).all()


@pytest.mark.parametrize("t0", ["50%", "80%"])
def test_freezeout(t0: str) -> None:
    """Brock et al.: block i of N stops at t0 + (1 − t0)·i/N of the run, i from 1 (to within a step)."""
    plan = plan_of("freezeout", t0=t0)
    begin = int(t0.rstrip("%")) / 100
    trained = plan.trained("depth")
    assert (np.diff(trained.astype(int), axis=0) <= 0).all(), "what stopped stays stopped"
    for block in range(12):
        stops = int(trained[:, block].sum())
        assert stops == pytest.approx((begin + (1 - begin) * (block + 1) / 12) * T, abs=1), block


@pytest.mark.parametrize(("t0", "steps"), [("1/2", 1000), ("8/10", 1000), ("8/10", 1217)])
def test_freezeout_cubed(t0: str, steps: int) -> None:
    """Brock et al.: layer i of N stops at the cube of t0 + (1 − t0)·i/N; exactly, if t0³ of the run is whole steps."""
    plan = plan_of("freezeout_cubed", steps=steps, t0=t0)
    trained, begin = plan.trained("depth"), Fraction(t0)
    border = plan.stages[1].start
    assert abs(border - begin**3 * steps) <= Fraction(1, 2)
    assert [stage.freeze for stage in plan.stages] == [(), ("embed",)]
    for block in range(12):
        stops = (begin + (1 - begin) * Fraction(block + 1, 12)) ** 3 * steps
        held = trained[:, block].tolist()
        if border == begin**3 * steps:
            assert held == [step < stops for step in range(steps)], block
        else:  # the border was rounded, and what is left is divided from there on
            assert held == sorted(held, reverse=True) and abs(sum(held) - stops) <= 1, block


def test_random_ltd() -> None:
    """Yao et al.: the first and the last block see all positions, each between them random ones of its own; their
    number grows linearly from a quarter to all. What a token costs is what the layers that it passes through cost."""
    plan = compile_file(schedule_directory() / "random_ltd.raptr", model=LONG, steps=T, seed=17)
    mask = plan.masks("positions")
    count, growing = mask.sum(2), round(0.7 * T)
    exact = [16 + 48 * Fraction(step, growing - 1) for step in range(growing)]
    seen = [*(math.floor(size + Fraction(1, 2)) for size in exact), *[64] * (T - growing)]
    assert count.tolist() == [[64, kept, kept, 64] for kept in seen]
    assert (mask[0, 1] != mask[0, 2]).any() and (mask[0, 1:3] != mask[1, 1:3]).any()
    projected, scored = (
        sum(LONG.batch * each for kept in seen for each in (64**power, *[kept**power] * 2, 64**power))
        for power in (1, 2)
    )
    weights = 4 * LONG.hidden**2 + 2 * LONG.hidden * LONG.ffn
    assert plan.flops().blocks == 3 * 2 * (projected * weights + scored * 2 * LONG.hidden)


@pytest.mark.parametrize("r", [1, 2])
def test_sequence_warmup(r: int) -> None:
    """Li et al.: d(t) = min + (max − min)(t/T)^(1/r), rounded down."""
    path = schedule_directory() / "sequence_warmup.raptr"
    plan = compile_file(path, model=LONG, steps=T, seed=17, params={"r": str(r)})
    count, growing = plan.masks("seq").sum(1).ravel(), round(0.3 * T)
    published = [8 + 56 * (step / (growing - 1)) ** (1 / r) for step in range(growing)]
    assert count[:growing].tolist() == [math.floor(length + 1e-9) for length in published]
    assert (count[growing:] == 64).all()


SCALABLE = ["raptr", "stochastic_depth", "layerdrop", "pld", "dont_drop_dropout", "midas", "matformer", "constant"]


@settings(max_examples=25)
@given(
    st.sampled_from(SCALABLE),
    st.integers(1, 3),
    st.integers(1, 3),
    st.fractions(Fraction(1, 10), 1, max_denominator=20),
)
def test_importing_rescales_exactly(name: str, depth: int, horizon: int, share: Fraction) -> None:
    """At another depth, horizon or share of a run, every exact duration and relative size is what it was."""
    first = plan_of(name, 24, 240)
    text = f"use std/{name}\nrun {name} steps={share.numerator}/{share.denominator}\nstage steps=rest\n"
    text = text if share < 1 else f"allow partial\nuse std/{name}\nrun {name} steps=100%\n"
    steps = 240 * horizon * share.denominator
    second = check_text(text, Options(shape(24 * depth), steps, 17)).result()
    parts = second.stages[: len(first.stages)]
    for one, other in zip(first.stages, parts, strict=True):
        assert other.duration / one.duration == horizon * share * share.denominator
        assert one.axes.keys() == other.axes.keys()
        for axis, rule in one.axes.items():
            scale = (depth if axis == "depth" else 1) if rule.measure == "units" else 1
            ends = (rule.sizes[0].value, rule.sizes[-1].value) if rule.sizes else rule.choices
            rescaled = other.axes[axis]
            now = (rescaled.sizes[0].value, rescaled.sizes[-1].value) if rescaled.sizes else rescaled.choices
            if len(rule.sizes) <= 1:
                assert [Fraction(end) * scale for end in ends] == list(now)
            else:  # a curve reaches its end to within one level of its staircase
                assert abs(ends[0] * scale - now[0]) <= scale and abs(ends[1] * scale - now[1]) <= Fraction(1, 512)
    whole = sum((part.duration for part in parts), Fraction(0))
    assert whole == steps * share
    assert parts[-1].stop == math.floor(whole + Fraction(1, 2))
