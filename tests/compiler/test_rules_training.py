"""Rules 31 and 33 to 36 as the compiler reads them: what trains, what is frozen, what grows, what climbs again."""

from fractions import Fraction
from hashlib import sha256

import numpy as np
import pytest
from numpy.random import Philox

from raptr_dsl import check_text, compile_text
from raptr_dsl.flops import full_blocks_cost, head_cost
from raptr_dsl.ir.plan import Growth, Plan

MODEL = "model layers=12 heads=2 hidden=32 ffn=128 vocab=64 seq=8 batch=2 tied=false\nsteps 120\n"


def planned(text: str) -> Plan:
    return compile_text(MODEL + text + "\n")


def codes(text: str) -> list[str]:
    return [item.code for item in check_text(f"{MODEL}{text}\n", complete=True).diagnostics]


def growth_of(*stages: str) -> Growth:
    """The last growth of a schedule with these stages, in equal shares."""
    text = "\n".join(f"stage {stage} steps={120 // len(stages)}" for stage in stages)
    growth = planned(f"allow partial\n{text}").growth(len(stages) - 1)
    assert growth is not None
    return growth


# --- 31 ---


def test_rule_31_a_learned_scale_is_of_depth_and_not_at_full_size() -> None:
    plan = planned("stage depth=6/12 heads=1/2 depth.scale=learned steps=50%\nstage steps=rest")
    assert plan.learns_scales and plan.step(0).axes["depth"].learned and not plan.step(0).axes["heads"].learned
    assert "depth" not in plan.step(60).axes
    like = planned("stage depth=6/12 heads=1/2 depth.scale=sqrt steps=50%\nstage steps=rest")
    assert (plan.step(3).axes["depth"].scale == like.step(3).axes["depth"].scale).all() and not like.learns_scales
    assert codes("stage heads=1/2 scale=learned steps=50%\nstage steps=rest") == ["unknown-word"]
    assert not codes("stage depth=6/12 heads=1/2 scale=learned steps=50%\nstage steps=rest")


# --- 33 ---


def test_rule_33_what_trains_is_drawn_from_words_of_its_own() -> None:
    plan = planned("stage depth=6/12 depth.train=fixed(4) steps=50%\nstage steps=rest")
    alone = planned("stage depth=6/12 steps=50%\nstage steps=rest")
    assert (plan.masks("depth") == alone.masks("depth")).all()
    trained = plan.trained("depth", 0, 60)
    assert (trained.sum(axis=1) == 4).all() and (trained != plan.masks("depth", 0, 60)).any()
    again = planned("stage depth.train=fixed(4) steps=50%\nstage steps=rest")
    assert (again.trained("depth", 0, 60) == trained).all()
    assert plan.trained("depth", 60).all()
    for step in (0, 17, 59):
        mask = plan.step(step).axes["depth"].trains
        assert mask is not None and (mask[0] == trained[step]).all()


def test_rule_33_every_is_how_long_a_training_set_lasts() -> None:
    plan = planned("stage depth.train=fixed(2) every=20 steps=rest")
    trained = plan.trained("depth")
    assert (trained.reshape(6, 20, 12) == trained[::20][:, None]).all()
    assert len({tuple(row) for row in trained[::20].tolist()}) > 1


def test_rule_33_new_are_the_units_that_no_stage_before_ran() -> None:
    plan = planned(
        "default sample=prefix\nstage depth=3 steps=25%\nstage depth=6 depth.train=new steps=25%\n"
        "stage depth=9 grow=copy(middle) depth.train=new steps=25%\nstage steps=rest"
    )
    assert plan.trained("depth", 30, 31)[0].nonzero()[0].tolist() == [3, 4, 5]
    assert plan.trained("depth", 60, 61)[0].nonzero()[0].tolist() == [3, 4, 5]  # inserted there
    assert plan.trained("depth", 0, 1)[0, :3].all() and plan.trained("depth", 90).all()


def test_rule_33_a_law_at_the_whole_size_trains_all() -> None:
    full = planned("stage depth=6/12 steps=50%\nstage steps=rest")
    for words in ("depth.train=fixed(12/12)", "depth.train=all", "depth.train=suffix(12)"):
        assert planned(f"stage depth=6/12 {words} steps=50%\nstage steps=rest").digest == full.digest


def test_rule_33_other_parts_are_frozen() -> None:
    plan = planned("stage freeze=[head, embed] steps=50%\nstage steps=rest")
    assert plan.step(0).frozen == {"embed", "head"} and not plan.step(60).frozen
    assert plan.digest != planned("stage steps=rest").digest
    assert planned("default freeze=[head]\nstage freeze=[] steps=rest").digest == planned("stage steps=rest").digest


# --- 34 ---


def test_rule_34_what_does_not_train_costs_no_weight_gradient() -> None:
    """Twice the forward pass, but for the scores; a third of the weights' share of a step is saved."""
    shape = planned("stage steps=rest").shape
    tokens = 16
    weights = 4 * (2 * tokens * 32 * 32) + 2 * (2 * tokens * 32 * 128)
    scores = 2 * (2 * tokens * 8 * 32)
    assert full_blocks_cost(shape) == 3 * 12 * (weights + scores)
    report = planned("allow partial\nstage depth.train=fixed(2) steps=rest").flops()
    assert report.blocks == 120 * (12 * (2 * weights + 3 * scores) + 2 * weights)
    assert report.head == 120 * head_cost(shape) and report.full_blocks == 120 * full_blocks_cost(shape)


def test_rule_34_a_frozen_prefix_saves_its_whole_backward_pass() -> None:
    """facts: a frozen block in the middle saves a third, a frozen prefix two thirds."""
    report = planned("stage depth.train=suffix(6) freeze=[embed] steps=rest").flops()
    assert report.ratio_blocks == Fraction(6 + 6 * 3, 12 * 3)
    middle = planned("stage depth.train=suffix(6) steps=rest").flops()
    parts = {part: Fraction(cost) / middle.full_parts[part] for part, cost in middle.parts.items()}
    assert parts.pop("attention.scores") == 1 and set(parts.values()) == {Fraction(5, 6)}


def test_rule_34_a_frozen_head_costs_its_inputs_gradient_only() -> None:
    report = planned("stage freeze=[head] steps=rest").flops()
    head = head_cost(planned("stage steps=rest").shape)
    assert (report.head, report.head_saved) == (120 * head * 2 // 3, 120 * head // 3)
    assert report.full_total == planned("stage steps=rest").flops().full_total


@pytest.mark.parametrize(
    "stage",
    [
        "depth=6/12 depth.train=fixed(4)",
        "depth=6/12 heads=1/2 depth.train=bernoulli(1/2)",
        "depth=draw(3, 6, 9) depth.train=fixed(4)",
        "depth=6/12..12/12 depth.train=suffix(12/12..3/12) freeze=[embed]",
        "depth=6/12 depth.train=stratified(4, groups=4)",
    ],
)
def test_rule_34_the_mean_over_seeds_is_near_the_expectation(stage: str) -> None:
    plan = planned(f"stage {stage} steps=rest\nallow partial")
    counted = [plan.model_copy(update={"seed": seed}).flops(case="seed").blocks for seed in range(12)]
    expected = plan.flops().blocks
    assert float(sum(counted)) / 12 == pytest.approx(float(expected), rel=0.02)
    assert max(counted) <= plan.flops(case="worst").blocks


def test_rule_34_where_all_is_the_same_in_each_step_seed_and_mean_agree() -> None:
    plan = planned("stage depth.train=suffix(12/12..1/12) freeze=[embed] steps=50%\nstage steps=rest")
    assert plan.flops().blocks == plan.flops(case="seed").blocks == plan.flops(case="worst").blocks


# --- 35 ---


def test_rule_35_the_maps_of_copies() -> None:
    small = "depth=4 sample=prefix"
    last = growth_of(small, "depth=6 sample=prefix grow=copy(last)")
    assert (last.at, last.sources, list(last.new)) == (4, (0, 1, 2, 3, 2, 3), [4, 5])
    middle = growth_of(small, "depth=6 sample=prefix grow=copy(middle)")
    assert (middle.at, middle.sources, list(middle.new)) == (2, (0, 1, 0, 1, 2, 3), [2, 3])
    everything = growth_of(small, "depth=12 grow=copy(all)")
    assert (everything.at, everything.sources) == (4, (0, 1, 2, 3) * 3)
    zero = growth_of(small, "depth=6 sample=prefix grow=zero")
    assert (zero.sources, zero.moments) == ((0, 1, 2, 3, -1, -1), "zero")
    assert growth_of(small, "depth=6 sample=prefix grow=copy(last) moments=zero").moments == "zero"


@pytest.mark.parametrize(("n", "b"), [(n, b) for n in range(1, 12) for b in range(1, 13 - n)])
@pytest.mark.parametrize("grow", ["copy(last)", "copy(middle)", "copy(all)"])
def test_rule_35_old_units_stay_in_order(n: int, b: int, grow: str) -> None:
    text = f"stage depth={n} sample=prefix steps=50%\nstage depth={n + b} sample=prefix grow={grow} steps=rest"
    if b > n and grow != "copy(all)":
        assert codes(f"allow partial\n{text}") == ["cannot-grow"]
        return
    growth = planned(f"allow partial\n{text}").growth(1)
    assert growth is not None
    new = set(growth.new)
    assert [source for unit, source in enumerate(growth.sources) if unit not in new] == list(range(n))
    if grow == "copy(middle)":  # e = ⌈(n/b)/2⌉·b, and what is inserted is the b units before it
        assert growth.at == -(-Fraction(n, b) // 2) * b
    assert [growth.sources[unit] for unit in growth.new] == [
        unit % n if grow == "copy(all)" else unit - b for unit in growth.new
    ]


def test_rule_35_growth_needs_prefixes_of_constant_size() -> None:
    for before, after in [
        ("depth=4", "depth=6 sample=prefix"),
        ("depth=3..4 sample=prefix", "depth=6 sample=prefix"),
        ("depth=4 sample=prefix", "depth=6"),
        ("depth=4 sample=prefix", "depth=6..8 sample=prefix"),
    ]:
        text = f"stage {before} steps=50%\nstage {after} grow=copy(last) steps=rest\nallow partial"
        assert codes(text) == (["no-effect"] if before == "depth=4" else ["cannot-grow"]), text
    kept = "keep depth=[last]\nstage depth=4 sample=prefix steps=50%\nstage depth=6 sample=prefix grow=zero steps=rest"
    assert codes(f"allow partial\n{kept}") == ["cannot-grow"]


def test_rule_35_a_default_grows_at_full_size_too_and_is_idle_where_nothing_is_new() -> None:
    plan = planned(
        "default sample=prefix grow=copy(all)\nstage depth=3 steps=25%\nstage depth=3 steps=25%\n"
        "stage depth=6 steps=25%\nstage steps=rest"
    )
    assert [plan.growth(stage) is not None for stage in range(4)] == [False, False, True, True]
    assert [plan.grows_at(step) is not None for step in (0, 59, 60, 61, 90, 119)] == [
        False,
        False,
        True,
        False,
        True,
        False,
    ]
    assert [plan.born(step) for step in (0, 59, 60, 90)] == [3, 3, 6, 12]


def test_rule_35_units_that_are_not_born_are_untouched() -> None:
    plan = planned("stage depth=6 sample=prefix steps=50%\nstage grow=copy(all) steps=rest")
    trains = plan.step(0).axes["depth"].trains
    assert trains is not None and trains[0].tolist() == [True] * 6 + [False] * 6


# --- 36, 41 ---


def test_rule_36_evaluation_is_of_the_units_that_are_born() -> None:
    assert planned("stage depth=6 sample=prefix steps=50%\nstage steps=rest").born(0) == 12
    grows = (
        "stage depth=3 sample=prefix steps=50%\nstage depth=6 sample=prefix grow=copy(all) steps=25%\nstage steps=rest"
    )
    assert [planned(grows).born(step) for step in (0, 60, 90)] == [3, 6, 12]


def test_rule_41_a_stage_that_grows_or_climbs_is_kept_apart() -> None:
    one = planned("stage depth=6/12 rewarm=10 steps=50%\nstage steps=rest")
    split = planned("stage depth=6/12 rewarm=10 steps=25%\nstage depth=6/12 steps=25%\nstage steps=rest")
    twice = planned("stage depth=6/12 rewarm=10 steps=25%\nstage depth=6/12 rewarm=10 steps=25%\nstage steps=rest")
    assert one.digest == split.digest != twice.digest
    assert one.clip(30) == twice.clip(30) and one.clip(31) != twice.clip(31)
    difference = one.first_difference(twice)
    assert difference is not None and difference.step == 30


def test_rewarm_climbs_from_nothing_to_one() -> None:
    plan = planned("stage depth=6/12 rewarm=4 steps=50%\nstage rewarm=10% steps=rest")
    assert [plan.rate_factor(step) for step in range(5)] == [Fraction(n, 4) for n in (1, 2, 3, 4, 4)]
    assert [plan.rate_factor(60 + step) for step in range(7)] == [Fraction(n, 6) for n in (1, 2, 3, 4, 5, 6, 6)]
    assert codes("stage rewarm=121 steps=rest") == ["rewarm-too-long"]
    assert planned("default rewarm=4\nstage rewarm=0 steps=rest").digest == planned("stage steps=rest").digest


def test_a_step_that_could_train_nothing_is_refused() -> None:
    model = MODEL
    for stage, code in [
        ("depth=6 sample=prefix depth.train=suffix(3)", "trains-nothing"),
        ("depth=prob(1/2) sample=bernoulli freeze=[embed, head]", "trains-nothing"),
        ("depth.train=fixed(2) freeze=[embed]", "backward-unknown"),
        ("depth=6 depth.train=prefix(3) freeze=[embed]", "backward-unknown"),
    ]:
        assert codes(f"stage {stage} steps=50%\nstage steps=rest") == [code], stage
    tied = model.replace(" tied=false", "")
    checked = check_text(f"{tied}stage freeze=[head] steps=rest\n", complete=True)
    assert [item.code for item in checked.diagnostics] == ["freeze-tied"]


@pytest.mark.parametrize(("power", "faster"), [(1, "1.385"), (2, "1.238"), (3, "1.163")])
def test_published_figures_of_midas(power: int, faster: str) -> None:
    """facts: 24 blocks, four at a time, stages in proportion to i^a (Saunshi et al., arXiv 2409.19044)."""
    model = MODEL.replace("layers=12", "layers=24").replace("120", "21k")
    text = f"default sample=prefix grow=copy(middle)\nramp stages=6 depth=4/24..24/24 shares=power({power}) steps=100%"
    plan = compile_text(f"{model}{text}\nrequire flops <= 99%\n")
    assert f"{float(1 / plan.flops().ratio_blocks):.3f}" == faster
    assert [plan.born(stage.start) for stage in plan.stages] == [4, 8, 12, 16, 20, 24]


def test_published_rule_of_lisa() -> None:
    """facts: every 20 steps draw two blocks to train, forward in full; the cost is the same in every draw."""
    plan = planned("stage depth.train=fixed(2) every=20 steps=rest")
    assert plan.shapes == 1 and plan.flops().blocks == plan.flops(case="seed").blocks == plan.flops(case="worst").blocks


def test_published_rule_of_freezeout() -> None:
    """facts: block i stops at t_i; linear from the first stop on, each freeze saves the backward pass up to it."""
    text = "stage steps=50%\nstage depth.train=suffix(12/12..1/12) freeze=[embed, head] steps=rest"
    plan = planned(text)
    trained = plan.trained("depth", 60)
    assert (trained[1:] <= trained[:-1]).all() and trained[-1].sum() == 1 and trained[0].all()
    stops = trained.sum(axis=0)
    assert (stops[1:] >= stops[:-1]).all()


def test_rule_33_the_words_of_a_training_set_are_those_of_its_axis() -> None:
    """By hand: rules 18 to 22 with the axis `depth.train`."""
    plan = planned("seed 5\nstage depth.train=fixed(4) every=3 steps=rest")
    key = sha256(b"raptr-mask-1\0" + (5).to_bytes(8, "little") + b"depth.train").digest()[:16]
    for step in (0, 1, 2, 3, 118):
        begin, blocks = step // 3 * 3, 4
        generator = Philox(key=np.frombuffer(key, "<u8"), counter=begin * blocks)
        words = [int(word) for word in generator.random_raw(12)]
        ranks = [word >> 16 << 16 | unit for unit, word in enumerate(words)]
        chosen = sorted(range(12), key=ranks.__getitem__)[:4]
        assert plan.trained("depth", step, step + 1)[0].nonzero()[0].tolist() == sorted(chosen)


def test_rule_35_a_schedule_meant_to_grow_that_does_not_is_told() -> None:
    thinned = "stage depth=3 {law} steps=20%\nstage depth=6 {law} grow=copy(last) steps=20%\n"
    thinned += "stage depth=all grow=copy(last) steps=rest"
    (found,) = check_text(MODEL + thinned.format(law=""), complete=True).diagnostics
    assert (found.code, found.severity) == ("no-effect", "warning")
    assert found.span and found.span.text == "copy(last)" and "sample=prefix" in found.help
    assert not codes(thinned.format(law="sample=prefix"))
