"""The library `std`: each schedule against an independent statement of its published rule and figures."""

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from raptr_dsl.api import Options, check_file, check_text
from raptr_dsl.diagnostics import Diagnostics
from raptr_dsl.library.libraries import standard
from raptr_dsl.syntax.files import load_source
from raptr_dsl.syntax.layout import format_text
from tests.schedules.plans import FILES, T, plan_of, require_rule, shape, sizes


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
