"""The library `std`: each schedule against an independent statement of its published rule and figures."""

import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raptr_dsl import compile_file
from raptr_dsl.api import Options, check_file, check_text
from raptr_dsl.diagnostics import Diagnostics
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import Plan
from raptr_dsl.library.libraries import standard
from raptr_dsl.resources import schedule_directory
from raptr_dsl.syntax.files import load_source
from raptr_dsl.syntax.layout import format_text

FILES = sorted(schedule_directory().glob("*.raptr"))
T = 1200


def shape(layers: int, name: str = "") -> ModelShape:
    """A model for the schedule of that name."""
    words = {"experts": 12, "top_k": 2} if name.endswith("experts") else {}
    return ModelShape(layers=layers, heads=12, hidden=96, ffn=1536, vocab=64, seq=8, batch=2, tied=False, **words)


LONG = shape(4).model_copy(update={"seq": 64})


def plan_of(name: str, layers: int = 12, steps: int = T, **params: str) -> Plan:
    return compile_file(
        schedule_directory() / f"{name}.raptr", model=shape(layers, name), steps=steps, seed=17, params=params
    )


def chances(plan: Plan, step: int) -> dict[int, float]:
    """The keep probability of each block that runs in a step, by the 1/p with which its output is multiplied."""
    mask = plan.step(step).axes.get("depth")
    if mask is None or mask.full:
        return dict.fromkeys(range(plan.shape.layers), 1.0)
    return {block: 1 / mask.scale[0, block] for block in mask.active()}


def require_rule(plan: Plan, keep: Callable[[int, float], float], tolerance: float = 1 / 1024) -> None:
    """Compares the probability of each block that runs, in steps all over the run, with a published rule."""
    for step in range(0, T, 7):
        for block, chance in chances(plan, step).items():
            assert chance == pytest.approx(keep(block, step), abs=tolerance), (block, step)


def sizes(plan: Plan) -> list[tuple[int, int]]:
    """(steps, active blocks) of each stage."""
    return [(stage.steps, int(plan.masks("depth", stage.start, stage.start + 1).sum())) for stage in plan.stages]


def layer_map(plan: Plan, stage: int) -> list[int]:
    growth = plan.growth(stage)
    assert growth is not None
    return list(growth.sources)


# --- the library as such ------------------------------------------------------------------------------------


def test_the_manifest_exports_every_file() -> None:
    assert list(standard().exports) == [path.stem for path in FILES]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_file_compiles_says_what_it_is_and_is_neat(path: Path) -> None:
    checked = check_file(path, Options(model=shape(24, path.stem), steps=T))
    assert checked.plan and not checked.diagnostics
    assert checked.plan.doc and len(checked.plan.doc) > 40
    source = load_source(path, Diagnostics())
    assert source and format_text(source, Diagnostics()) == source.text


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_file_can_be_run_as_a_part(path: Path) -> None:
    text = f"use std/{path.stem}\nrun {path.stem} steps=50%\nstage full steps=rest\n"
    checked = check_text(text, Options(model=shape(24, path.stem), steps=T))
    assert checked.plan and not checked.diagnostics


# --- RaPTr and its controls ---------------------------------------------------------------------------------


def test_raptr() -> None:
    plan = plan_of("raptr")
    assert sizes(plan) == [(300, 6), (300, 8), (300, 10), (300, 12)]
    assert plan.masks("depth")[:, [0, 11]].all()
    assert 1 / plan.flops().ratio_blocks == Fraction(4, 3)


def test_raptr_24() -> None:
    assert sizes(plan_of("raptr_24", 24)) == [(120, 12), (240, 16), (360, 20), (480, 24)]
    assert 1 / plan_of("raptr_24", 24).flops().ratio_blocks == Fraction(6, 5)
    assert 1 / plan_of("raptr_24_equal", 24).flops().ratio_blocks == Fraction(4, 3)
    assert sizes(plan_of("raptr_24_warm", 24, steps=400_000))[0] == (30_000, 24)


@pytest.mark.parametrize("axis", ["width", "heads"])
def test_raptr_of_width_and_of_heads(axis: str) -> None:
    plan = plan_of(f"raptr_{axis}")
    for stage, share in zip(plan.stages, (6, 8, 10, 12), strict=True):
        mask = plan.masks(axis, stage.start, stage.stop)
        assert (mask.sum(2) == share * mask.shape[2] / 12).all()


def test_raptr_of_experts_thins_the_router_alone() -> None:
    plan = plan_of("raptr_experts")
    for stage, count in zip(plan.stages, (6, 8, 10, 12), strict=True):
        assert (plan.masks("experts", stage.start, stage.stop).sum(2) == count).all()
    report = plan.flops()
    shares = {part: Fraction(flops, report.full_parts[part]) for part, flops in report.parts.items()}
    assert shares.pop("ffn.router") == Fraction(3, 4) and set(shares.values()) == {1}
    assert plan_of("raptr_experts", small="1/3").flops().ratio_blocks < report.ratio_blocks


def test_controls() -> None:
    assert plan_of("constant").flops().ratio_blocks == plan_of("raptr").flops().ratio_blocks == Fraction(3, 4)
    assert [size for _, size in sizes(plan_of("reversed"))] == [12, 10, 8, 6]
    dense = plan_of("dense")
    assert dense.masks("depth").all() and dense.flops().ratio_blocks == 1


# --- random depth -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deepest", ["1/2", "4/5"])
def test_stochastic_depth(deepest: str) -> None:
    """Huang et al.: p_l = 1 − (l/L)(1 − p_L), l from 1."""
    last = float(Fraction(deepest))
    require_rule(plan_of("stochastic_depth", deepest=deepest), lambda block, _: 1 - (block + 1) / 12 * (1 - last), 1e-9)


def test_layerdrop() -> None:
    """Fan et al.: every block is dropped with 0.2, unscaled."""
    plan = plan_of("layerdrop")
    assert plan.flops().ratio_blocks == Fraction(4, 5)
    kept = plan.masks("depth").mean(0)
    assert np.abs(kept - 0.8).max() < 5 * math.sqrt(0.16 / T)
    assert set(plan.step(0).axes["depth"].scale.ravel()) <= {0.0, 1.0}


@pytest.mark.parametrize(("limit", "rate"), [("1/2", 100), ("7/10", 5)])
def test_pld(limit: str, rate: int) -> None:
    """Zhang and He: θ(t) = (1 − θ̄)e^(−100t/T) + θ̄, p_l = 1 − (l/L)(1 − θ(t)), scaled by 1/p."""
    bound = float(Fraction(limit))

    def keep(block: int, step: float) -> float:
        theta = (1 - bound) * math.exp(-rate / T * step) + bound
        return 1 - (block + 1) / 12 * (1 - theta)

    require_rule(plan_of("pld", limit=limit, rate=str(rate)), keep)


def test_the_defaults_are_those_that_were_published() -> None:
    assert plan_of("pld").digest == plan_of("pld", limit="1/2", rate="100").digest
    assert plan_of("stochastic_depth").digest == plan_of("stochastic_depth", deepest="1/2").digest
    assert plan_of("lisa").digest == plan_of("lisa", blocks="2", period="20").digest


def test_pld_is_stochastic_depth_once_theta_is_constant() -> None:
    late, constant = plan_of("pld", rate="1000"), plan_of("stochastic_depth")
    assert np.array_equal(late.masks("depth", T // 2, T), constant.masks("depth", T // 2, T))


def test_early_and_late_stochastic_depth() -> None:
    """Liu et al.: drop rates fall linearly to 0 over the first part; or are 0 in it, and constant after it."""
    early = T // 5

    def falling(block: int, step: float) -> float:
        return 1 if step >= early else 1 - (block + 1) / 12 * 0.5 * (1 - step / (early - 1))

    require_rule(plan_of("early_stochastic_depth"), falling)
    require_rule(
        plan_of("late_stochastic_depth"), lambda block, step: 1 if step < early else 1 - (block + 1) / 12 * 0.5, 1e-9
    )


@pytest.mark.parametrize("p_max", ["1/5", "1/2"])
def test_dont_drop_dropout(p_max: str) -> None:
    """Drop p(l, t) = p_max · l/(L − 1) · (1 − t/(T − 1)), l from 0; p_max/4 of the block FLOPs are left out."""
    most = Fraction(p_max)
    plan = plan_of("dont_drop_dropout", p_max=p_max, factor="inverse")
    require_rule(plan, lambda block, step: 1 - float(most) * block / 11 * (1 - step / (T - 1)))
    assert abs(1 - plan.flops().ratio_blocks - most / 4) <= Fraction(1, 1024)


def test_layerskip() -> None:
    """Elhoushi et al.: drop S(t)·D(l)·p_max, D = e^(l·ln 2/(L − 1)) − 1, S = e^(t·ln 2/(T − 1)) − 1, or 1."""

    def over_blocks(block: int) -> float:
        return math.exp(block * math.log(2) / 11) - 1

    def over_time(step: float) -> float:
        return math.exp(step * math.log(2) / (T - 1)) - 1

    growing = plan_of("layerskip", p_max="2/5", factor="inverse")
    require_rule(growing, lambda block, step: 1 - 0.4 * over_blocks(block) * over_time(step))
    constant = plan_of("layerskip_constant", p_max="2/5", factor="inverse")
    require_rule(constant, lambda block, _: 1 - 0.4 * over_blocks(block), 1e-9)


def test_random_prefix() -> None:
    plan = plan_of("random_prefix")
    mask = plan.masks("depth")
    count = mask.sum(1)
    assert all(mask[step, : count[step]].all() for step in range(T))
    drawn = np.bincount(count, minlength=13)
    assert set(drawn.nonzero()[0]) == set(range(6, 13))
    assert np.abs(drawn[6:] - T / 7).max() < 5 * math.sqrt(T / 7)
    assert plan.flops().ratio_blocks == Fraction(9, 12)


def test_one_stage_of_raptr_without_ends_or_scale_is_layerdrop() -> None:
    """The identity: RaPTr with one stage, I empty, no scaling, each block by itself = LayerDrop(1 − p)."""
    raptr = check_text("allow partial\nstage depth=80% sample=bernoulli steps=100%\n", Options(shape(12), T, 17)).plan
    assert raptr and np.array_equal(raptr.masks("depth"), plan_of("layerdrop").masks("depth"))


# --- growth and freezing ------------------------------------------------------------------------------------


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
    """Brock et al.: block i of N stops at t0 + (1 − t0)·i/N of the run, i from 1 (to within two steps)."""
    plan = plan_of("freezeout", t0=t0)
    begin = int(t0.rstrip("%")) / 100
    trained = plan.trained("depth")
    assert (np.diff(trained.astype(int), axis=0) <= 0).all(), "what stopped stays stopped"
    for block in range(11):
        stops = int(trained[:, block].sum())
        assert stops == pytest.approx((begin + (1 - begin) * (block + 1) / 11) * T, abs=2), block


# --- thinned data -------------------------------------------------------------------------------------------


def test_random_ltd() -> None:
    """Yao et al.: every block has random positions of its own; their number grows linearly from a quarter to all."""
    plan = compile_file(schedule_directory() / "random_ltd.raptr", model=LONG, steps=T, seed=17)
    mask = plan.masks("positions")
    count, growing = mask.sum(2), round(0.7 * T)
    assert (count == count[:, :1]).all() and (count[growing:] == 64).all()
    exact = [16 + 48 * Fraction(step, growing - 1) for step in range(growing)]
    assert count[:growing, 0].tolist() == [math.floor(size + Fraction(1, 2)) for size in exact]
    assert (mask[0, 0] != mask[0, 1]).any() and (mask[0] != mask[1]).any()


@pytest.mark.parametrize("r", [1, 2])
def test_sequence_warmup(r: int) -> None:
    """Li et al.: d(t) = min + (max − min)(t/T)^(1/r), rounded down."""
    path = schedule_directory() / "sequence_warmup.raptr"
    plan = compile_file(path, model=LONG, steps=T, seed=17, params={"r": str(r)})
    count, growing = plan.masks("seq").sum(1).ravel(), round(0.3 * T)
    published = [8 + 56 * (step / (growing - 1)) ** (1 / r) for step in range(growing)]
    assert count[:growing].tolist() == [math.floor(length + 1e-9) for length in published]
    assert (count[growing:] == 64).all()


# --- rescaling ----------------------------------------------------------------------------------------------

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
