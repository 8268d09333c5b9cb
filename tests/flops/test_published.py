"""Published schedules come out as published; the sources are those of the schedules themselves."""

from __future__ import annotations

from fractions import Fraction

import pytest

from raptr_dsl import compile_text
from raptr_dsl.flops import CONVENTIONS
from raptr_dsl.ir.plan import Plan

BERT = "model bert-base\nsteps 1200\nkeep depth=[first, last]\n"
EQUAL = "".join(f"stage depth={k}/12 steps=25%\n" for k in (6, 8, 10, 12))
T24 = "model layers=24 heads=16 hidden=1024 ffn=4096 vocab=32000 seq=512 batch=8\nsteps 1000\n"


def mean_size(plan: Plan, axis: str) -> Fraction:
    """Of a plan whose one axis is thinned, the blocks' share of FLOPs is the mean share of its units."""
    assert {name for stage in plan.stages for name in stage.axes} == {axis}
    return plan.flops().ratio_blocks


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_raptr_6_8_10_12_is_three_quarters_of_the_blocks_by_every_convention(convention: str) -> None:
    """Panigrahi et al., arXiv 2402.05913: 1.33x fewer FLOPs on BERT-Base."""
    report = compile_text(BERT + EQUAL).flops(convention)
    assert report.ratio_blocks == Fraction(3, 4)
    assert round(float(1 / report.ratio_blocks), 3) == 1.333


def test_raptr_6_8_10_12_with_the_head_in_the_denominator() -> None:
    """1.318x with the head on 15% of the positions, 1.250x with it on all."""
    on_some = compile_text(BERT + EQUAL).flops().ratio_total
    on_all = compile_text(BERT.replace("bert-base", "bert-base head_share=100%") + EQUAL).flops().ratio_total
    assert (round(float(1 / on_some), 3), round(float(1 / on_all), 3)) == (1.318, 1.250)
    by_convention = compile_text(BERT + EQUAL).flops("megatron").ratio_total
    assert by_convention == on_all  # published conventions count the head everywhere


def test_berts_dense_layer_before_the_head_changes_the_third_digit() -> None:
    whole = compile_text(BERT.replace("bert-base", "bert-base head_transform=true") + EQUAL).flops()
    assert round(float(1 / whole.ratio_total), 3) == 1.317 and whole.ratio_blocks == Fraction(3, 4)


@pytest.mark.parametrize(
    "stages",
    [
        "".join(f"stage depth={k}/24 steps={share}%\n" for k, share in ((12, 10), (16, 20), (20, 30), (24, 40))),
        "ramp stages=4 depth=12/24..24/24 shares=power(1) steps=100%\n",
        "ramp stages=5 depth=16/24..24/24 steps=100%\n",
    ],
    ids=["1:2:3:4", "1:2:3:4 by power", "16-18-20-22-24 equal"],
)
def test_raptr_of_24_blocks_is_exactly_a_sixth_cheaper(stages: str) -> None:
    assert 1 / compile_text(T24 + stages).flops().ratio_blocks == Fraction(6, 5)


def test_raptr_of_24_blocks_in_equal_stages() -> None:
    assert compile_text(T24 + "ramp stages=4 depth=12/24..24/24 steps=100%\n").flops().ratio_blocks == Fraction(3, 4)


@pytest.mark.parametrize(("a", "published"), [(1, 1.385), (2, 1.238), (3, 1.163)])
def test_midas_durations(a: int, published: float) -> None:
    """Saunshi et al., arXiv 2409.19044: stages of 4, 8, … 24 of 24 blocks, T_i = i^a / Σ j^a · T."""
    stages = f"ramp stages=6 depth=4/24..24/24 sample=prefix shares=power({a}) steps=100%\nrequire flops <= 99%\n"
    plan = compile_text(T24.replace("steps 1000", "steps 444k") + stages)
    exact = Fraction(sum(i ** (a + 1) for i in range(1, 7)), 6 * sum(i**a for i in range(1, 7)))
    assert round(float(1 / exact), 3) == published
    assert abs(plan.flops().ratio_blocks - exact) < Fraction(1, 10**5)  # borders are whole steps
    assert compile_text(T24 + stages.replace("<= 99%", f"== {exact}")).proven  # rule 38: before they are rounded


def test_progressive_layer_dropping_keeps_0_732() -> None:
    """Zhang & He, arXiv 2010.13369: θ falls from 1 to .5 as e^(−100·t/T); block l of L keeps 1 − l/L·(1 − θ(t))."""
    plan = compile_text(
        "model bert-base\nsteps 100k\nallow partial\n"
        "stage depth=prob(exp(100%, 50%, rate=100)) sample=bernoulli profile=linear scale=inverse steps=rest\n"
    )
    kept = plan.flops().ratio_blocks
    assert round(float(kept), 3) == 0.732
    # The mean of 1 − (L+1)/2L · (1 − θ(t)) over the run; that of θ is .5 + .5·(1 − e⁻¹⁰⁰)/100.
    assert abs(float(kept) - (1 - 13 / 24 * (0.5 - 0.5 / 100))) < 1e-4


def test_stochastic_depth_keeps_three_quarters_and_a_little_less() -> None:
    """Huang et al., arXiv 1603.09382: p_l = 1 − l/L·(1 − p_L), p_L = .5: the mean is 1 − (L+1)/4L."""
    plan = compile_text(
        "model bert-base\nsteps 100\nallow partial\nstage depth=prob(50%) sample=bernoulli profile=linear steps=rest\n"
    )
    assert mean_size(plan, "depth") == 1 - Fraction(13, 48)


@pytest.mark.parametrize("p_max", [Fraction(1, 2), Fraction(1, 4), Fraction(1, 5)])
def test_dont_drop_dropout_omits_a_quarter_of_p_max(p_max: Fraction) -> None:
    """arXiv 2609.05275: block l of L drops with p_max · l/(L−1) · (1 − t/(T−1)), l and t from 0."""
    plan = compile_text(
        "model bert-base\nsteps 4097\nallow partial\n"
        f"stage depth=prob(linear({1 - p_max}, 1)) sample=bernoulli profile=linear(0, 1) scale=inverse steps=rest\n"
    )
    omitted = 1 - plan.flops().ratio_blocks
    assert abs(omitted - p_max / 4) <= p_max / 4 / 1024  # probabilities along a curve are whole 1024ths (rule 16)
    assert plan.step(4096).axes["depth"].full  # the last step drops nothing
