"""Requirements, and the published figures they assert."""

from fractions import Fraction

import pytest

from raptr_dsl import check_text, compile_text
from raptr_dsl.api import Options

BERT = "model bert-base\nsteps 1200\nkeep depth=[first, last]\n"
EQUAL = "".join(f"stage depth={k}/12 steps=25%\n" for k in (6, 8, 10, 12))


def codes(text: str) -> list[str]:
    return [item.code for item in check_text(text, complete=True).diagnostics]


def holds(requirement: str, text: str = BERT + EQUAL) -> bool:
    found = codes(f"{text}require {requirement}\n")
    assert found in ([], ["requirement-refuted"])
    return not found


def test_rule_37_published_6_8_10_12_is_three_quarters_of_the_blocks() -> None:
    assert holds("flops == 75%") and holds("flops(blocks) == 3/4") and holds("mean(depth) == 75%")
    assert not holds("flops < 75%".replace("<", "<=").replace("75%", "74.9%"))


def test_rule_37_with_the_head_in_the_denominator() -> None:
    """1.318x with the head on 15% of the positions, 1.250x with it on all of them."""
    masked = compile_text(BERT + EQUAL).flops()
    assert round(float(1 / masked.ratio_total), 3) == 1.318
    everywhere = "model layers=12 heads=12 hidden=768 ffn=3072 vocab=30522 seq=512 batch=256\nsteps 1200\n"
    whole = compile_text(everywhere + EQUAL).flops()
    assert round(float(1 / whole.ratio_total), 3) == 1.250


def test_rule_37_12_16_20_24_in_stages_of_1_2_3_4_is_exactly_1_2() -> None:
    stages = "".join(f"stage depth={k}/24 steps={share}%\n" for k, share in ((12, 10), (16, 20), (20, 30), (24, 40)))
    plan = compile_text("model ul2-1.6b\nsteps 1000\n" + stages)
    assert 1 / plan.flops().ratio_blocks == Fraction(6, 5)


def test_rule_37_progressive_layer_dropping_keeps_0_732() -> None:
    text = (
        "model bert-base\nsteps 10000\nallow partial\n"
        "stage depth=prob(exp(100%, 50%, rate=100)) sample=bernoulli profile=linear scale=inverse steps=rest\n"
    )
    assert holds("mean(depth) >= 73.1%", text) and holds("mean(depth) <= 73.3%", text)


def test_rule_38_relative_requirements_weigh_exact_durations() -> None:
    """1001 steps do not split in four; the ratio is the file's all the same, and the whole steps are counted apart."""
    text = (BERT + EQUAL).replace("steps 1200", "steps 1001")
    assert holds("flops == 75%", text)
    plan = compile_text(text)
    assert plan.flops().ratio_blocks != Fraction(3, 4)


def test_rule_38_both_values_are_told_where_rounded_borders_make_them_differ() -> None:
    stages = "".join(f"stage depth={k}/12 steps=25%\n" for k in (6, 8, 10)) + "stage steps=rest\n"
    text = f"model bert-base\n{stages}require flops == 75%\nrequire mean(depth) == 75%\nrequire mean(depth) >= 8\n"
    both = "75% by exact durations, 74.91% in whole steps"
    plan = compile_text(text, steps=97)
    assert [one.value for one in plan.proven] == [both, both, "≈ 8.99"]
    assert f"{float(plan.flops().ratio_blocks):.2%}" == "74.91%"
    assert [one.value for one in compile_text(text, steps=100).proven] == ["75%", "75%", "9"]
    assert compile_text(text, steps=675_001).proven[0].value == "75%", "the same in print"
    refuted = check_text(text.replace("flops == 75%", "flops <= 74.95%"), Options(steps=97)).diagnostics
    assert f"it is {both}" in refuted[0].message


def test_rule_38_random_counts_have_expectation_worst_case_and_seed() -> None:
    text = "model bert-base\nsteps 400\nallow partial\nstage depth=6/12 sample=bernoulli steps=rest\n"
    assert holds("flops == 50%", text)
    assert holds("flops(blocks, case=worst) == 100%", text)
    plan = compile_text(text)
    active = int(plan.masks("depth").sum())
    assert plan.flops(case="seed").ratio_blocks == Fraction(active, 400 * 12)
    assert holds(f"flops(blocks, case=seed) == {active}/4800", text)


def test_rule_38_shapes_count_what_can_occur() -> None:
    assert holds("shapes == 4")
    assert holds(
        "shapes == 3",
        BERT + "stage depth=6/12 steps=25%\n" * 2 + "stage depth=8/12 steps=25%\nstage steps=25%\n",
    )
    partial = "model bert-base\nsteps 400\nkeep depth=[first]\nallow partial\n"
    assert holds("shapes == 12", partial + "stage depth=6/12 sample=bernoulli steps=rest\n")


def test_rule_39_coverage_counts_steps_in_which_block_and_unit_both_run() -> None:
    text = "model layers=4 heads=4 hidden=16 ffn=64 vocab=32 seq=4\nsteps 400\n"
    both = "stage depth=2/4 depth.sample=balanced heads=2/4 heads.sample=prefix steps=50%\nstage steps=rest\n"
    assert holds("coverage(depth) == 300", text + both)
    assert holds("coverage(heads) == 200", text + both)  # the last two heads run in the full stage only
    assert holds("gap(heads) == 200", text + both)
    plan = compile_text(text + both)
    ran = plan.masks("heads") & plan.masks("depth")[:, :, None]
    assert holds(f"coverage(heads) == {int(ran.sum(axis=0).min())}", text + both)


def test_balance_is_the_largest_difference_between_groups() -> None:
    text = BERT.replace("keep depth=[first, last]\n", "")
    even = text + "stage depth=6/12 sample=stratified(groups=3) steps=50%\nstage steps=rest\n"
    assert holds("balance(depth, groups=3) == 0", even)
    prefix = text + "stage depth=6/12 sample=prefix steps=50%\nstage steps=rest\n"
    assert holds("balance(depth, groups=2) == 6", prefix)
    assert codes(even + "require balance(depth, groups=5) == 0\n") == ["bad-requirement"]


def test_final_and_mean_in_units_and_shares() -> None:
    assert holds("final(depth) == 100%") and holds("final(depth) == 12") and holds("mean(depth) == 9")
    assert holds("mean(width) == 3072")


@pytest.mark.parametrize("requirement", ["flops <= 1.2e21", "flops(total) >= 1000"])
def test_rule_37_a_count_is_absolute(requirement: str) -> None:
    plan = compile_text(BERT + EQUAL)
    assert holds(requirement) == (plan.flops().blocks <= Fraction(12 * 10**20) if "<=" in requirement else True)


def test_a_refuted_requirement_shows_both_numbers_and_the_dearest_stage() -> None:
    (found,) = check_text(BERT + EQUAL + "require flops <= 70%\n", complete=True).diagnostics
    assert "75%" in found.message and "70%" in found.message
    assert any("costs most" in note for note in found.notes)


@pytest.mark.parametrize("steps", [1000, 1001])
@pytest.mark.parametrize("metric", ["flops", "flops(total)", "mean(depth)", "coverage(depth)", "gap(depth)", "shapes"])
@pytest.mark.parametrize(("op", "wrong"), [("<=", "0"), (">=", "1e30"), ("==", "1")])
def test_the_requirement_that_help_proposes_holds(metric: str, op: str, wrong: str, steps: int) -> None:
    """Both as counts and as shares; a mean of 1001 steps is no whole number of blocks."""
    text = BERT.replace("steps 1200", f"steps {steps}") + "stage depth=6/12 steps=1/3\nstage steps=rest\n"
    shares = [] if metric in ("gap(depth)", "shapes") else ["1%" if op != ">=" else "100%"]
    for value in (wrong, *shares):
        (found,) = check_text(f"{text}require {metric} {op} {value}\n", complete=True).diagnostics
        assert found.code == "requirement-refuted"
        proposed = found.help.partition("or require ")[2]
        if not proposed:
            assert op == "==" and "no whole number" in found.help
            continue
        assert holds(f"{metric} {proposed}", text)
