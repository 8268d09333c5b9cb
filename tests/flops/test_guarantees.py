"""Coverage and gap by theorem: never more than any seed keeps, and as much as the theorems give."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import raptr_dsl.guarantees as guarantees
from raptr_dsl import check_text, compile_text
from raptr_dsl.axes import AXES
from raptr_dsl.guarantees import Guarantee, guarantee
from raptr_dsl.ir.bound import Border, BoundRule, BoundStage
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import Plan
from raptr_dsl.laws import LAWS
from raptr_dsl.tally import trained_steps
from tests.flops.drawn import parts_of, plans, shapes

MODEL = "model layers=12 heads=12 hidden=96 ffn=512 vocab=5 seq=4\nsteps 1000\nseed 17\nkeep depth=[first, last]\n"


def of(text: str, axis: str = "depth") -> Guarantee:
    plan = compile_text(MODEL + text)
    found = guarantee(plan.shape, plan.stages, axis)
    assert found is not None
    return found


def holds(plan: Plan, axis: str) -> Guarantee:
    """The guarantee, after it was seen to hold."""
    found = guarantee(plan.shape, plan.stages, axis)
    assert found is not None
    counted = trained_steps(plan, axis)
    assert found.least <= counted.least and counted.longest_gap <= found.longest_gap
    if found.is_exact:
        assert found.least == counted.least
    return found


@settings(max_examples=150)
@given(shapes(), st.data())
def test_no_plan_trains_less_than_is_guaranteed(shape: ModelShape, data: st.DataObject) -> None:
    holds(data.draw(plans(shape)), data.draw(st.sampled_from(parts_of(shape))))


@settings(max_examples=100)
@given(
    n=st.integers(1, 9),
    kept=st.integers(0, 2),
    law=st.sampled_from(["balanced", "rotate"]),
    every=st.sampled_from([1, 2, 5, None]),
    data=st.data(),
)
def test_rule_23_units_dealt_in_rounds(n: int, kept: int, law: str, every: int | None, data: st.DataObject) -> None:
    """Long stages of one or two sizes, under several seeds; the longest rest of all is at times the bound itself."""
    kept = min(kept, n)
    shape = ModelShape(layers=n, heads=1, hidden=1, ffn=1, vocab=1, seq=1)
    stages, start = [], 0
    for _ in range(data.draw(st.integers(1, 2))):
        steps, size = data.draw(st.integers(1, 60)), data.draw(st.integers(max(1, kept), n))
        rule = BoundRule(
            law=LAWS[law](),  # pyright: ignore[reportCallIssue]
            keep=tuple(range(kept)),
            sizes=(Border(offset=0, value=Fraction(size)),),
            every=every,
        )
        axes = {"depth": rule}
        stages.append(BoundStage(start=start, stop=start + steps, duration=Fraction(steps), axes=axes))
        start += steps
    for seed in range(4):
        plan = Plan(name="dealt", seed=seed, shape=shape, steps=start, partial=True, stages=tuple(stages))
        holds(plan, "depth")


def test_rule_23_the_bounds_are_reached() -> None:
    """5 of 10 pooled blocks in 600 steps: 300 times each; 4 of 10 rest for at most 4 draws, and some seed has all 4."""
    stage = "stage depth=7/12 sample=balanced steps=60%\nstage steps=rest\n"
    assert of(stage) == Guarantee(least=700, is_exact=True, longest_gap=2)
    stage = "stage depth=6/12 sample=balanced steps=60%\nstage steps=rest\n"
    assert of(stage) == Guarantee(least=640, is_exact=True, longest_gap=4)
    gaps = {trained_steps(compile_text(MODEL + stage, seed=seed), "depth").longest_gap for seed in range(5)}
    assert max(gaps) == 4


def test_a_remainder_of_a_round_is_a_bound_and_no_value() -> None:
    """599 draws of 4 of 10 are 239.6 of each: some unit has 239, and which one is the seed's to say."""
    found = of("stage depth=6/12 sample=balanced steps=599\nstage steps=rest\n")
    assert (found.least, found.is_exact) == (239 + 401, False)


def test_rotation_rests_for_one_round_only() -> None:
    assert of("stage depth=6/12 sample=rotate steps=60%\nstage steps=rest\n").longest_gap == 2
    assert of("stage depth=6/12 sample=balanced every=20 steps=60%\nstage steps=rest\n").longest_gap == 80


def test_rests_go_on_from_one_stage_to_the_next() -> None:
    """3 in a row of dealt stages: the rest at the end of one and at the start of the next."""
    found = of(
        "stage depth=4/12 sample=balanced steps=300\nstage depth=3/12 sample=balanced steps=rest\nallow partial\n"
    )
    assert found.longest_gap == 18  # within the second: two rounds of 10 draws, less the ones it runs in
    found = of("stage depth=5/12 sample=prefix steps=100\nstage depth=7/12 sample=balanced steps=rest\nallow partial\n")
    assert found.longest_gap == 101 and found.least == 450


def test_what_is_left_to_chance_is_bounded_by_the_rest_of_the_run() -> None:
    text = "stage depth=6/12 steps=25%\nstage depth=8/12 sample=bernoulli steps=25%\nstage steps=rest\n"
    assert of(text) == Guarantee(least=500, is_exact=False, longest_gap=500)


def test_laws_without_chance_are_exact() -> None:
    text = "stage depth=6/12 sample=prefix steps=40%\nstage depth=9/12 sample=suffix steps=30%\nstage steps=rest\n"
    plan = compile_text(MODEL.replace("keep depth=[first, last]\n", "") + text)
    assert holds(plan, "depth") == Guarantee(least=600, is_exact=True, longest_gap=400)


def test_units_in_every_drawn_prefix_are_certain() -> None:
    plan = compile_text(
        "model layers=4 heads=1 hidden=8 ffn=64 vocab=5 seq=4\nsteps 40\nallow partial\n"
        "stage depth=draw(2/4, 3/4) sample=prefix steps=50%\nstage depth=draw(2/4, 4/4) steps=rest\n"
    )
    found = holds(plan, "depth")
    assert (found.least, found.longest_gap) == (0, 40)  # of the last two blocks; the first two are certain at first
    plan = compile_text(
        "model layers=4 heads=1 hidden=8 ffn=64 vocab=5 seq=4\nsteps 40\nkeep depth=[2, 3]\nallow partial\n"
        "stage depth=draw(3/4, 4/4) sample=prefix steps=rest\n"
    )
    assert holds(plan, "depth") == Guarantee(least=0, is_exact=False, longest_gap=40)  # of block 1 alone


def test_rule_39_a_per_block_axis_runs_where_its_block_does() -> None:
    heads = "stage heads=6/12 heads.sample=balanced steps=60%\nstage steps=rest\n"
    assert of(heads, "heads") == Guarantee(least=700, is_exact=True, longest_gap=2)
    depth = "stage depth=7/12 sample=balanced steps=60%\nstage steps=rest\n"
    assert of(depth, "heads") == of(depth)
    both = "stage depth=7/12 heads=6/12 sample=balanced steps=60%\nstage steps=rest\n"
    assert of(both, "heads") == Guarantee(least=400, is_exact=False, longest_gap=600)  # two deals may never meet
    in_turn = depth.replace("60%", "30%") + heads.replace("stage heads", "stage late heads").replace("60%", "30%")
    found = of(in_turn.replace("stage steps=rest\n", "", 1), "heads")
    assert (found.least, found.longest_gap) == (150 + 150 + 400, 2 + 1)


@settings(max_examples=60)
@given(cut=st.integers(1, 39), every=st.sampled_from([1, 3]), law=st.sampled_from(["balanced", "rotate"]))
def test_a_deal_that_is_seen_from_its_middle_on(cut: int, every: int, law: str) -> None:
    """The second head begins to run in the midst of depth's rounds: nothing is known of where in a round that is."""
    shape = ModelShape(layers=7, heads=2, hidden=2, ffn=1, vocab=1, seq=1)
    depth = BoundRule(law=LAWS[law](), sizes=(Border(offset=0, value=Fraction(3)),), every=every)  # pyright: ignore
    sizes = (Border(offset=0, value=Fraction(1)), Border(offset=cut, value=Fraction(2)))
    heads = BoundRule(law=LAWS["prefix"](), sizes=sizes)  # pyright: ignore[reportCallIssue]
    stage = BoundStage(start=0, stop=40, duration=Fraction(40), axes={"depth": depth, "heads": heads})
    for seed in range(4):
        plan = Plan(name="cut", seed=seed, shape=shape, steps=40, partial=True, stages=(stage,))
        holds(plan, "heads")


def test_a_deal_goes_on_where_something_else_changes() -> None:
    """The first head runs throughout, so that it is with depth's whole deal, whatever the others do."""
    text = "stage depth=6/12 depth.sample=balanced heads=6/12..12/12 heads.sample=prefix steps=60%\nstage steps=rest\n"
    first = text.replace("6/12..12/12", "12/12").replace(" heads.sample=prefix", "")
    plan = compile_text(MODEL + text)
    spans = guarantees._spans(plan.stages, "heads", AXES["heads"].space(plan.shape), range(12))
    assert spans is not None and len(spans) == 8
    always = [(True,) * len(spans)]
    blocks = guarantees._spans(plan.stages, "depth", AXES["depth"].space(plan.shape), range(12))
    assert blocks is not None
    pooled = tuple(span.fates[1] for span in blocks)
    bounds = guarantees._bounds(list(guarantees._merged([spans, blocks])), [always[0], pooled])
    assert (bounds.least, bounds.longest_gap) == (of(first).least, of(first).longest_gap) == (640, 4)


def test_it_gives_up_where_counting_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = compile_text(MODEL + "stage depth=7/12 sample=balanced steps=60%\nstage steps=rest\n")
    monkeypatch.setattr(guarantees, "MOST_COMPARISONS", 23)
    assert guarantee(plan.shape, plan.stages, "depth") is None
    monkeypatch.setattr(guarantees, "MOST_COMPARISONS", 24)
    assert guarantee(plan.shape, plan.stages, "depth") is not None


THEOREM = "stage depth=6/12 sample=balanced steps=60%\nstage steps=rest\n"
CHANCE = "stage depth=6/12 steps=60%\nstage steps=rest\n"


@pytest.mark.parametrize(
    ("stages", "requirement", "value"),
    [
        (THEOREM, "coverage(depth) >= 60%", "64%, for every seed"),
        (THEOREM, "coverage(depth) == 640", "640, for every seed"),
        (THEOREM, "gap(depth) <= 4", "at most 4, for every seed"),
        (CHANCE, "coverage(depth) >= 40%", "at least 40%, for every seed"),
        (CHANCE, "gap(depth) <= 600", "at most 600, for every seed"),
        (CHANCE, "flops <= 70%", "70%"),
        (CHANCE, "flops(blocks, case=seed) <= 70%", "70%, for seed 17"),
        (CHANCE.replace("6/12", "6/12 sample=rotate"), "balance(depth, groups=2) >= 1", "4, for every seed"),
    ],
)
def test_rule_39_a_proof_says_of_what_it_is_one(stages: str, requirement: str, value: str) -> None:
    (proven,) = compile_text(f"{MODEL}{stages}require {requirement}\n").proven
    assert proven.value == value


def test_rule_39_what_no_theorem_settles_is_counted() -> None:
    counted = trained_steps(compile_text(MODEL + CHANCE), "depth")
    assert counted.least > 400 and counted.longest_gap < 600
    text = f"require coverage(depth) == {counted.least}\nrequire gap(depth) <= {counted.longest_gap}\n"
    plan = compile_text(MODEL + CHANCE + text)
    assert [proven.value for proven in plan.proven] == [
        f"{counted.least}, for seed 17",
        f"{counted.longest_gap}, for seed 17",
    ]
    (found,) = check_text(f"{MODEL}{CHANCE}require gap(depth) <= 1\n", complete=True).diagnostics
    assert found.message.endswith(f"does not hold: it is {counted.longest_gap}, for seed 17")


def test_a_theorem_needs_no_masks() -> None:
    """So a check that a theorem settles does not load numpy."""
    code = (
        "import sys\nfrom raptr_dsl import check_text\n"
        f"assert check_text({MODEL + THEOREM + 'require coverage(depth) >= 60%'!r}).plan.proven\n"
        "assert 'numpy' not in sys.modules, 'numpy was loaded'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
