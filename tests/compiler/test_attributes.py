"""Sizes and attributes of a stage, and the settings in force where it stands (rules 6–8, 11, 15)."""

from fractions import Fraction

import pytest

from raptr_dsl.axes import AXES
from raptr_dsl.compiler.attributes import ATTRIBUTES
from raptr_dsl.curves import CURVES
from raptr_dsl.ir.schedule import Amount, AxisRule, Drawn, Duration, Exactly, Probability, Profile, Varying
from raptr_dsl.laws import LAWS
from tests.compiler.lowering import codes_of, rule, schedule_of, size


def test_sizes_of_every_kind() -> None:
    half, quarter = Amount(value=Fraction(1, 2)), Amount(value=Fraction(1, 4))
    linear = CURVES["linear"]()
    assert size("1/2") == Exactly(amount=half)
    assert size("1/4..1/2") == Varying(curve=linear, start=quarter, stop=half)
    assert size("linear(1/4, 1/2)") == size("1/4..1/2")
    assert size("1/4..all") == Varying(curve=linear, start=quarter, stop=Amount(value=Fraction(1)))
    assert size("draw(1/4, 1/2)") == Drawn(amounts=(quarter, half))
    assert size("draw(4..8)") == Drawn(
        amounts=(Amount(value=Fraction(4), is_count=True), Amount(value=Fraction(8), is_count=True)), is_range=True
    )
    assert size("prob(1/2)", "bernoulli") == Probability(start=Fraction(1, 2))
    assert size("prob(1/4..1/2)", "systematic") == Probability(start=Fraction(1, 4), stop=Fraction(1, 2), curve=linear)


def test_rule_15_every_curve_is_a_size() -> None:
    half, quarter = Amount(value=Fraction(1, 2)), Amount(value=Fraction(1, 4))
    for name, curve in CURVES.items():
        given = {curve.parameter: Fraction(1, 2)} if curve.parameter else {}
        last = ", 1/2" if given else ""
        named = f", {curve.parameter}=1/2" if given else ""
        expected = Varying(curve=curve(**given), start=quarter, stop=half)
        assert size(f"{name}(1/4, 1/2{last})") == size(f"{name}(1/4, 1/2{named})") == expected
        chance = Probability(curve=curve(**given), start=Fraction(1, 4), stop=Fraction(1, 2))
        assert size(f"prob({name}(1/4, 1/2{last}))", "bernoulli") == chance


def test_rule_6_probabilities_need_a_law_of_chances() -> None:
    for name, law in LAWS.items():
        args = {"ranked": "(order=[0, 1])", "stratified": "(groups=2)"}.get(name, "")
        codes = codes_of(f"stage depth=prob(1/2) sample={name}{args} steps=50%\nstage steps=rest")
        assert codes == (["size-for-law"] if law.exact else [])


def test_rule_6_no_unit_at_all_is_no_size_of_an_exact_law() -> None:
    assert codes_of("stage depth=0 steps=50%\nstage steps=rest") == ["size-range"]
    assert codes_of("stage depth=draw(0, 6) steps=50%\nstage steps=rest") == ["size-range"]
    assert codes_of("stage depth=0% sample=bernoulli steps=50%\nstage steps=rest") == []


def test_rule_7_a_draw_of_names() -> None:
    text = "let few = 1/8\nlet sizes = 4..8\nstage width=draw(few, 1/2) depth=draw(sizes) steps=50%\nstage steps=rest"
    stage = schedule_of(text).stages[0]
    assert stage.axes["width"].size == size("draw(1/8, 1/2)")
    assert stage.axes["depth"].size == size("draw(4..8)")


def test_every_attribute_reaches_the_rule() -> None:
    found = rule("depth=6/12 sample=bernoulli profile=linear every=20 scale=inverse idle=skip")
    assert found == AxisRule(
        size=Exactly(amount=Amount(value=Fraction(1, 2))),
        law=LAWS["bernoulli"](),
        profile=Profile(kind="linear"),
        every=20,
        scale="inverse",
        idle="skip",
    )
    assert rule("depth=6/12 every=stage").every is None
    assert rule("depth=6/12 sample=stratified(groups=4)").law == LAWS["stratified"](groups=4)
    assert rule("depth=2/3 sample=ranked(order=[2, 0, 1])").law == LAWS["ranked"](order=(2, 0, 1))
    assert rule("depth=6/12 sample=bernoulli profile=[1, 1/2, 0]").profile == Profile(
        kind="list", weights=(Fraction(1), Fraction(1, 2), Fraction(0))
    )
    assert rule("depth=6/12 sample=bernoulli profile=exp2(0, 1)").profile == Profile(
        kind="curve", curve=CURVES["exp2"](), start=Fraction(0), stop=Fraction(1)
    )


def test_order_of_attributes_is_free() -> None:
    assert rule("sample=balanced scale=sqrt depth=6/12") == rule("depth=6/12 scale=sqrt sample=balanced")


def test_rule_8_bare_attributes_speak_of_every_thinned_axis_and_dotted_ones_of_one() -> None:
    stage = schedule_of(
        "stage depth=6/12 width=1/2 heads=1/2 steps=50% scale=sqrt width.scale=none depth.sample=balanced\n"
        "stage steps=rest"
    ).stages[0]
    assert {axis: found.scale for axis, found in stage.axes.items()} == {
        "depth": "sqrt", "width": "none", "heads": "sqrt",
    }  # fmt: skip
    assert {axis: found.law.law for axis, found in stage.axes.items()} == {
        "depth": "balanced", "width": "fixed", "heads": "fixed",
    }  # fmt: skip


@pytest.mark.parametrize(
    "stage",
    [
        "steps=50% scale=sqrt",
        "depth=6/12 steps=50% heads.sample=balanced",
        "depth=6/12 steps=50% profile=linear",
        "depth=6/12 steps=50% sample=prefix every=2",
        "depth=6/12 steps=50% sample=suffix every=stage",
        "depth=2/4 steps=50% sample=ranked(order=[0, 1, 2, 3]) every=2",
        "depth=6/12 steps=50% scale=sqrt depth.scale=none",
    ],
)
def test_rule_8_an_attribute_without_effect_is_an_error(stage: str) -> None:
    assert codes_of(f"stage {stage}\nstage steps=rest") == ["no-effect"]


def test_a_misspelt_axis_is_one_mistake_and_its_attributes_are_none() -> None:
    assert codes_of("stage deph=6/12 sample=fixed steps=50%\nstage steps=rest") == ["unknown-attribute"]


@pytest.mark.parametrize(
    "stage",
    [
        "depth=6/12 steps=50% every=2",
        "depth=6/12 steps=50% sample=rotate every=2",
        "width=draw(1/4, 1/2) steps=50% sample=prefix every=2",  # the size is drawn anew
        "depth=6/12..11/12 steps=50% sample=prefix every=2",  # the size is read anew
        "depth=6/12 width=1/2 steps=50% sample=bernoulli width.sample=prefix profile=linear",
        "depth=12/12 steps=50% scale=sqrt",  # like its neighbours; so may a parameter make it
        "depth=all steps=50% depth.scale=sqrt",
        "depth=start steps=50% scale=sqrt",
    ],
)
def test_rule_8_an_attribute_with_some_effect_is_none(stage: str) -> None:
    assert codes_of(f"param start: fraction = 1\nstage {stage}\nstage steps=rest") == []


def test_rule_8_what_has_no_effect_is_not_in_the_rule() -> None:
    """So that stages of one meaning are equal, whatever is in force around them."""
    before = "default profile=linear every=20"
    assert rule("depth=6/12 sample=prefix", before=before) == rule("depth=6/12 sample=prefix")
    both = "depth=6/12 width=1/2 sample=bernoulli width.sample=prefix profile=linear"
    assert rule(both, "width") == rule("width=1/2 sample=prefix", "width")


def test_every_axis_takes_every_law_it_declares() -> None:
    for axis, known in AXES.items():
        for law in LAWS:
            if law in ("ranked", "stratified"):
                continue
            legal = known.laws is None or law in known.laws
            codes = codes_of(f"stage {axis}=1/2 sample={law} steps=50%\nstage steps=rest")
            assert codes == ([] if legal else ["unknown-word"])


def test_every_axis_takes_every_attribute_but_those_it_lacks() -> None:
    for axis, known in AXES.items():
        for name in ATTRIBUTES:
            size = "" if axis == "depth" else f"{axis}=1/2"
            codes = codes_of(f"stage depth=6/12 {size} {axis}.{name}=x steps=50%")
            assert ("unknown-attribute" in codes) == (name in known.lacks)


def test_lost_equals_sign() -> None:
    assert codes_of("stage depth8 steps=25%\nstage steps=rest") == ["stage-named-like-size"]
    assert codes_of("stage depth8 depth=8/12 steps=25%\nstage depth12 depth=all steps=rest") == []


def test_rule_11_keep_and_default_hold_from_there_on_in_their_block_and_the_blocks_inside() -> None:
    stages = schedule_of(
        """
        stage depth=6/12 steps=10%
        keep depth=[last, first]
        default scale=sqrt
        repeat 2 {
          stage depth=6/12 steps=10%
          default scale=none
          keep depth=[]
          repeat 1 { stage depth=6/12 steps=10% }
        }
        stage depth=6/12 steps=10%
        stage steps=rest
        """
    ).stages
    found = [(stage.axes["depth"].scale, stage.axes["depth"].keep) for stage in stages[:-1]]
    inner = [("sqrt", (0, -1)), ("none", ())]
    assert found == [("none", ()), *inner, *inner, ("sqrt", (0, -1))]


def test_rule_11_the_nearest_default_wins() -> None:
    before = "default depth.scale=linear scale=none\ndefault scale=sqrt heads.scale=inverse"
    assert rule("depth=6/12", before=before).scale == "sqrt"
    assert rule("heads=1/2", "heads", before).scale == "inverse"
    assert rule("depth=6/12 scale=none", before=before).scale == "none"


def test_rule_11_default_sets_no_axis_and_no_steps() -> None:
    assert codes_of("default depth=6/12 steps=10%\nstage steps=rest") == ["default-size"] * 2


def test_rule_11_a_run_sees_only_its_own_statements() -> None:
    files = {
        "warm.raptr": "doc 'no'".replace("'", '"')
        + "\nmodel nonsense\nsteps 5\nseed 3\nallow partial\nrequire flops <= 1%\nstage depth=6/12 steps=100%"
    }
    schedule = schedule_of(
        'use "warm.raptr"\nkeep depth=first\ndefault scale=sqrt\nsteps 675k\nrun warm steps=50%\nstage steps=rest',
        files,
    )
    assert schedule.stages[0].axes["depth"] == rule("depth=6/12")
    assert schedule.horizon == Duration(steps=Fraction(675_000))
    assert (schedule.doc, schedule.model, schedule.seed, schedule.requirements) == (None, None, None, ())
    assert schedule.allow == frozenset()


def test_rule_11_names_of_the_caller_are_unknown_in_a_run() -> None:
    files = {"warm.raptr": "stage depth=half steps=100%"}
    text = 'use "warm.raptr"\nlet half = 1/2\nrun warm steps=50%\nstage steps=rest'
    assert codes_of(text, files) == ["unknown-name"]


def test_keep_lists() -> None:
    for written, kept in [
        ("[first, last]", (0, -1)), ("first", (0,)), ("[3, 1..2, 1]", (1, 2, 3)), ("[last]", (-1,)), ("ends", (0, 5)),
        ("[first..3]", (0, 1, 2, 3)),
    ]:  # fmt: skip
        assert rule("depth=6/12", before=f"let ends = [0, 5]\nkeep depth={written}").keep == kept
    assert rule("width=1/2", "width", "keep depth=first").keep == ()
