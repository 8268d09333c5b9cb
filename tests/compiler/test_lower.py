"""The numbered rules of the language that lowering carries out."""

from fractions import Fraction

import pytest

from raptr_dsl.api import check_text
from raptr_dsl.axes import AXES
from raptr_dsl.compiler.attributes import ATTRIBUTES
from raptr_dsl.compiler.lower import lower
from raptr_dsl.curves import CURVES
from raptr_dsl.diagnostics import Diagnostics
from raptr_dsl.ir.schedule import Amount, AxisRule, Drawn, Duration, Exactly, Probability, Profile, Varying
from raptr_dsl.laws import LAWS
from raptr_dsl.source import Source
from raptr_dsl.syntax.parser import parse
from tests.compiler.lowering import codes_of, lowered, schedule_of


def rule(text: str, axis: str = "depth", before: str = "") -> AxisRule:
    """The rule of one axis of the stage that a text says, with any duration."""
    return schedule_of(f"{before}\nstage {text} steps=50%\nstage steps=rest").stages[0].axes[axis]


def size(text: str, sample: str = "fixed") -> object:
    return rule(f"depth={text} sample={sample}").size


def durations(text: str, files: dict[str, str] | None = None, **params: str) -> list[Duration]:
    return [stage.duration for stage in schedule_of(text, files, **params).stages]


def shares(text: str, files: dict[str, str] | None = None, **params: str) -> list[Fraction]:
    found = durations(text, files, **params)
    assert not any(duration.steps or duration.tokens for duration in found)
    return [duration.share for duration in found]


# --- numbers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value", "is_count"),
    [
        ("6", 6, True), ("2*3", 6, True), ("8-2", 6, True), ("-2 + 8", 6, True), ("(1 + 1)*3", 6, True),
        ("6/12", Fraction(1, 2), False), ("50%", Fraction(1, 2), False), ("0.5", Fraction(1, 2), False),
        ("2 * 1/4", Fraction(1, 2), False), ("1/4 + 25%", Fraction(1, 2), False), ("1 - 1/2", Fraction(1, 2), False),
        ("6/3/4", Fraction(1, 2), False), ("12/12 - 6/12", Fraction(1, 2), False), ("4/2 - 3/2", Fraction(1, 2), False),
    ],
)  # fmt: skip
def test_rule_1_sums_of_counts_are_counts_and_all_else_is_a_share(text: str, value: Fraction, is_count: bool) -> None:
    assert size(text) == Exactly(amount=Amount(value=Fraction(value), is_count=is_count))


def test_rule_1_a_bare_number_is_its_value_where_only_a_share_is_legal() -> None:
    assert schedule_of("default sample=bernoulli\nstage depth=prob(1) steps=100%").stages[0].axes == {}
    text = "param start: fraction in 1/12 .. 1 = 1\nstage depth=start steps=50% scale=sqrt\nstage steps=rest"
    assert schedule_of(text).stages[0].axes == {}


def test_rule_1_numbers_have_at_most_256_bits() -> None:
    head = f"let x = {2**128}\nlet y = "
    assert codes_of(head + "x * x / 2\nstage steps=rest") == ["limit-number"]
    assert codes_of(head + f"x * {2**127}\nstage steps=rest") == []


def test_rule_1_a_long_sum_is_no_deep_tree() -> None:
    # The parser limits what one expression nests; names do not nest.
    lines = ["let x0 = 1/100000"] + [f"let x{i} = x{i - 1} + 1/100000" for i in range(1, 5000)]
    text = "\n".join([*lines, "stage depth=1/2 steps=x4999", "stage steps=rest"])
    assert shares(text)[0] == Fraction(5000, 100000)


def test_rule_2_values_are_reduced_and_the_denominator_is_kept_with_the_source() -> None:
    one, origins, _ = lowered("let half = 6/12\nstage depth=half steps=2/4\nstage steps=rest")
    other = schedule_of("stage depth=1/2 steps=50%\nstage steps=1/2")
    assert one == other
    origin = origins.at(("stages", 0, "axes", "depth", "size"))
    assert (origin.text, origin.denominators) == ("half", (12,))


@pytest.mark.parametrize(
    ("text", "denominators"),
    [("50%", ()), ("0.5", ()), ("6", ()), ("6/12", (12,)), ("2 * 3/12", (12,)), ("1/4..6/12", (4, 12)),
     ("draw(1/8, 1/4, 1/2, 100%)", (8, 4, 2)), ("round(1/3)", (3,)), ("1/3 + 1/4", (3, 4))],
)  # fmt: skip
def test_rule_2_which_denominators_were_written(text: str, denominators: tuple[int, ...]) -> None:
    _, origins, problems = lowered(f"stage depth={text} steps=50%\nstage steps=rest")
    assert not problems
    assert origins.at(("stages", 0, "axes", "depth", "size")).denominators == denominators


def test_rule_3_rounding_is_asked_for() -> None:
    assert size("1/3") == Exactly(amount=Amount(value=Fraction(1, 3)))
    for word, rounding in (("round", "nearest"), ("floor", "floor"), ("ceil", "ceil")):
        assert size(f"{word}(1/3)") == Exactly(amount=Amount(value=Fraction(1, 3)), rounding=rounding)
        varying = size(f"{word}(1/3..2/3)")
        assert isinstance(varying, Varying)
        assert varying.rounding == rounding


# --- sizes and attributes -------------------------------------------------------------------------------


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
        given = {curve.parameter: Fraction(3)} if curve.parameter else {}
        last = ", 3" if given else ""
        named = f", {curve.parameter}=3" if given else ""
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


# --- settings -------------------------------------------------------------------------------------------


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


# --- time -----------------------------------------------------------------------------------------------


def test_rule_9_shares_are_of_the_level_and_counts_absolute() -> None:
    files = {"inner.raptr": "stage depth=6/12 steps=25%\nstage depth=9/12 steps=1k\nstage steps=rest"}
    found = durations('use "inner.raptr"\nrun inner steps=40%\nstage steps=10k\nstage steps=rest', files)
    share = Fraction(2, 5)
    assert found == [
        Duration(share=share / 4),
        Duration(steps=Fraction(1000)),
        Duration(share=share * 3 / 4, steps=Fraction(-1000)),
        Duration(steps=Fraction(10_000)),
        Duration(share=1 - share, steps=Fraction(-10_000)),
    ]


def test_rule_9_a_repeat_with_steps_has_equal_passes_and_a_plain_one_none() -> None:
    passes = "repeat 3 steps=60% {\n stage depth=6/12 steps=25%\n stage depth=9/12 steps=rest\n}\nstage steps=rest"
    assert shares(passes) == [Fraction(1, 20), Fraction(3, 20)] * 3 + [Fraction(2, 5)]
    plain = "repeat 3 {\n stage depth=6/12 steps=5%\n stage depth=9/12 steps=15%\n}\nstage steps=rest"
    assert shares(plain) == shares(passes)


def test_rule_9_tokens_are_absolute() -> None:
    found = durations("stage depth=6/12 tokens=500M\nstage steps=rest")
    assert found == [
        Duration(tokens=Fraction(500_000_000)),
        Duration(share=Fraction(1), tokens=Fraction(-500_000_000)),
    ]


def test_rule_9_at_most_one_rest_a_level() -> None:
    assert codes_of("stage depth=6/12 steps=rest\nstage steps=rest") == ["two-rests"]
    assert codes_of("repeat 2 { stage depth=6/12 steps=rest }\nstage steps=10%") == ["two-rests"]
    assert codes_of("repeat 2 steps=50% { stage depth=6/12 steps=rest }\nstage steps=rest") == []


def test_rule_10_a_ramp_is_equal_stages_with_both_ends() -> None:
    ramp = "ramp up stages=4 depth=6/12..12/12 steps=80% scale=sqrt\nstage steps=rest"
    stages = "\n".join(
        f"stage up-{i} depth={k}/12 steps=20%{' scale=sqrt' if k < 12 else ''}".replace("up-", "up")
        for i, k in enumerate((6, 8, 10, 12), 1)
    )
    expanded, written = schedule_of(ramp), schedule_of(stages + "\nstage steps=rest")
    assert [stage.name for stage in expanded.stages] == ["up-1", "up-2", "up-3", "up-4", None]
    assert [stage.axes for stage in expanded.stages] == [stage.axes for stage in written.stages]
    assert [stage.duration for stage in expanded.stages] == [stage.duration for stage in written.stages]


def test_rule_10_shares_of_a_ramp() -> None:
    for written in ("[1, 2, 3, 4]", "power(1)", "[10%, 20%, 30%, 40%]"):
        text = f"ramp stages=4 shares={written} depth=6/12..9/12 steps=50%\nstage steps=rest"
        assert shares(text) == [Fraction(i, 20) for i in (1, 2, 3, 4)] + [Fraction(1, 2)]
    text = "ramp stages=3 shares=power(2) depth=6/12..10/12 steps=rest\nstage steps=30%"
    assert shares(text) == [Fraction(7, 10) * Fraction(i * i, 14) for i in (1, 2, 3)] + [Fraction(3, 10)]
    assert len(shares("ramp shares=[1, 1] depth=6/12..10/12 steps=50%\nstage steps=rest")) == 3


def test_rule_10_curves_of_a_ramp() -> None:
    def sizes(ramp: str) -> list[object]:
        return [
            stage.axes["depth"].size if stage.axes else None
            for stage in schedule_of(f"ramp {ramp} steps=50%\nstage steps=rest").stages[:-1]
        ]

    squares = sizes("stages=3 depth=4/12..12/12 curve=poly(2)")
    assert squares == [Exactly(amount=Amount(value=v)) for v in (Fraction(1, 3), Fraction(1, 2))] + [None]
    assert sizes("stages=3 depth=poly(4/12, 12/12, 2)") == squares
    counts = sizes("stages=3 depth=12..4")
    assert counts == [Exactly(amount=Amount(value=Fraction(v), is_count=True)) for v in (12, 8, 4)]
    rounded = sizes("stages=3 depth=round(6/12..12/12) curve=root(2)")
    middle = rounded[1]
    assert isinstance(middle, Exactly)
    assert middle.rounding == "nearest"
    assert abs(middle.amount.value - (1 + Fraction(1, 2) ** Fraction(1, 2)) / 2) < 1e-15
    chances = sizes("stages=2 depth=prob(1/2..3/4) sample=bernoulli")
    assert chances == [Probability(start=Fraction(1, 2)), Probability(start=Fraction(3, 4))]
    four_or_six = tuple(Amount(value=Fraction(count), is_count=True) for count in (4, 6))
    assert sizes("stages=2 depth=draw(4, 6)") == [Drawn(amounts=four_or_six)] * 2


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("stage depth=6/12 steps=60%\nstage steps=50%", "stages-overrun"),
        ("stage steps=110%", "stages-overrun"),
        ("stage depth=6/12 steps=100%\nstage steps=rest", "stages-overrun"),
        ("stage depth=6/12 steps=120%\nstage steps=rest", "stages-overrun"),
        ("stage depth=6/12 steps=100%\nstage steps=1", "stages-overrun"),
        ("stage depth=6/12 steps=50%\nstage steps=40%", "stages-gap"),
        ("repeat 2 steps=50% { stage depth=6/12 steps=50% }\nstage steps=rest", "stages-gap"),
        ("repeat 2 steps=1k { stage depth=6/12 steps=600 }\nstage steps=rest", "stages-overrun"),
    ],
)
def test_rule_12_stages_fill_the_run_and_every_level(text: str, code: str) -> None:
    assert codes_of(text) == [code]


@pytest.mark.parametrize(
    "text",
    [
        "stage depth=6/12 steps=10k\nstage steps=90%",  # right for a run of 100k steps
        "stage depth=6/12 steps=10k\nstage steps=20k",
        "stage depth=6/12 tokens=1M\nstage steps=90%",
        "stage depth=6/12 steps=10k\nstage steps=rest",
    ],
)
def test_rule_12_what_depends_on_the_horizon_is_left_to_binding(text: str) -> None:
    _, origins, problems = lowered(text)
    assert not problems
    assert [level.title for level in origins.levels] == ["the run"]


def test_rule_12_a_name_is_a_label() -> None:
    assert len(schedule_of("stage a depth=6/12 steps=50%\nstage a steps=rest").stages) == 2


def test_rule_13_a_duration_of_nothing_is_an_error_unless_a_parameter_makes_it_so() -> None:
    assert codes_of("stage depth=6/12 steps=0\nstage steps=rest") == ["bad-duration"]
    text = "param w: steps = 0\nstage depth=6/12 steps=w\nstage steps=rest"
    stages = schedule_of(text).stages
    assert (stages[0].duration, stages[0].optional) == (Duration(), True)
    assert stages[1].optional  # as much may be left as nothing, if the parameter says so
    stages = schedule_of(text, w="100%").stages
    assert (stages[1].duration, stages[1].optional) == (Duration(), True)
    assert codes_of(text, w="110%") == ["stages-overrun"]
    assert not schedule_of("stage depth=6/12 steps=10%\nstage steps=rest").stages[1].optional


def test_rule_13_a_parameter_reaches_into_a_run() -> None:
    files = {"inner.raptr": "stage depth=6/12 steps=50%\nstage steps=rest"}
    text = 'param w: steps = 10%\nuse "inner.raptr"\nrun inner steps=w\nstage steps=rest'
    assert [stage.optional for stage in schedule_of(text, files).stages] == [True, True, True]


@pytest.mark.parametrize(
    ("last", "is_full"),
    [
        ("depth=11/12", False), ("depth=prob(1/2) sample=bernoulli", False), ("depth=draw(1/2, all)", False),
        ("depth=all", True), ("depth=12/12", True), ("", True),
        # Only a model can tell: 12 blocks of 12, a curve's end rounded to the whole.
        ("depth=12", True), ("depth=6/12..12/12", True), ("depth=6/12..99/100", True), ("depth=ceil(99/100)", True),
    ],
)  # fmt: skip
def test_rule_14_the_last_step_is_full_unless_partial_is_allowed(last: str, is_full: bool) -> None:
    text = f"stage depth=6/12 steps=50%\nstage {last} steps=rest"
    assert codes_of(text) == ([] if is_full else ["not-full-at-end"])
    assert codes_of("allow partial\n" + text) == []


# --- parameters, imports --------------------------------------------------------------------------------


def test_parameters_of_every_type() -> None:
    text = """
    param blocks: int in 2 .. 10 = 6
    param wide: fraction in 1/8 .. 1 = 1/2
    param early: steps in 1k .. 100k = 10k
    param how: choice(sqrt, none, linear) = sqrt
    stage depth=blocks width=wide steps=early scale=how
    stage steps=rest
    """

    def first(**params: str) -> tuple[object, object, object, str]:
        stage = schedule_of(text, **params).stages[0]
        return stage.axes["depth"].size, stage.axes["width"].size, stage.duration, stage.axes["depth"].scale

    six = Exactly(amount=Amount(value=Fraction(6), is_count=True))
    half = Exactly(amount=Amount(value=Fraction(1, 2)))
    assert first() == (six, half, Duration(steps=Fraction(10_000)), "sqrt")
    eight = Exactly(amount=Amount(value=Fraction(8), is_count=True))
    quarter = Exactly(amount=Amount(value=Fraction(1, 4)))
    assert first(blocks="2 * 4", wide="25%", early="20k", how="linear") == (
        eight, quarter, Duration(steps=Fraction(20_000)), "linear",
    )  # fmt: skip
    assert codes_of(text, blocks="11") == codes_of(text, early="10%") == ["param-bounds"]
    assert codes_of(text, how="inverse") == ["unknown-word"]
    assert codes_of(text, blocks="1/0") == ["division-by-zero"]
    assert codes_of(text, blocks="half") == ["unknown-name"]
    assert codes_of(text, blok="3") == ["unknown-param"]
    assert codes_of(text, blocks="6; stage steps=rest") == ["param-type"]


def test_a_value_out_of_bounds_shows_the_value_and_the_bounds() -> None:
    text = "param start: fraction in 1/12 .. 1 = 6/12\nstage depth=start steps=50%\nstage steps=rest"
    _, _, (problem,) = lowered(text, params={"start": "14/12"})
    assert problem.span is not None
    assert (problem.span.source.name, problem.span.text) == ("--param start", "14/12")
    assert [label.span.text for label in problem.related] == ["1/12 .. 1"]


def test_imports_are_relative_to_the_file_that_imports_and_read_once() -> None:
    files = {
        "parts/a.raptr": 'use "b.raptr"\nuse "../top.raptr"\nrun b steps=50%\nrun top steps=50%',
        "parts/b.raptr": "stage depth=6/12 steps=100%",
        "top.raptr": "stage depth=9/12 steps=100%",
    }
    text = 'use "./parts/a.raptr" as first\nuse "parts/../parts/b.raptr"\n'
    text += "run first steps=50%\nrun b steps=25%\nstage steps=rest"
    assert shares(text, files) == [Fraction(1, 4)] * 4


def test_imports_that_fail_are_one_diagnostic() -> None:
    assert codes_of('use "nowhere.raptr" as x\nrun x steps=50%\nstage steps=rest') == ["file-missing"]
    files = {"bad.raptr": "stage depth= steps=100%"}
    codes = codes_of('use "bad.raptr"\nrun bad steps=50%\nstage steps=rest', files)
    assert codes == ["value-missing"]


def test_imports_are_32_deep_at_most() -> None:
    files = {f"f{i}.raptr": f'use "f{i + 1}.raptr" as next\nrun next steps=100%' for i in range(1, 40)}
    files["f40.raptr"] = files["f32.raptr"] = "stage steps=100%"
    text = 'use "f1.raptr" as next\nrun next steps=100%'
    assert codes_of(text, files) == []
    files["f32.raptr"] = 'use "f40.raptr" as next\nrun next steps=100%'
    assert codes_of(text, files) == ["limit-imports"]


def test_runs_of_runs_do_not_explode() -> None:
    files = {
        f"f{i}.raptr": f'use "f{i + 1}.raptr" as next\nrun next steps=50%\nrun next steps=50%' for i in range(1, 30)
    }
    files["f30.raptr"] = "stage steps=100%"
    assert codes_of('use "f1.raptr" as next\nrun next steps=100%', files) == ["limit-stages"]


def test_repeats_of_repeats_do_not_explode() -> None:
    text = "repeat 20000 { " * 60 + "stage depth=1/2 steps=1" + " }" * 60 + "\nstage steps=rest"
    assert codes_of(text) == ["limit-stages"]


def test_20_000_stages_are_not_too_many() -> None:
    text = "repeat 19999 { stage depth=1/2 steps=1/20000 }\nstage steps=rest"
    assert len(schedule_of(text).stages) == 20_000


def test_sums_of_unlike_denominators_stay_within_the_limit() -> None:
    primes = [n for n in range(2, 2000) if all(n % d for d in range(2, int(n**0.5) + 1))]
    text = "\n".join(f"stage depth=1/2 steps=1/{prime}" for prime in primes)
    assert codes_of(text + "\nstage steps=rest")[0] == "limit-number"


# --- the file as a whole --------------------------------------------------------------------------------


def test_header() -> None:
    schedule = schedule_of(
        'doc "d"\nmodel bert-base seq=128 causal=true head_share=1\ntokens 2B\nseed 17\nallow partial\n'
        "require flops(total, case=worst) <= 75%\nrequire shapes == 1\nrequire balance(depth, groups=4) == 0\n"
        "stage depth=6/12 steps=100%"
    )
    assert schedule.doc == "d"
    assert schedule.model is not None
    assert (schedule.model.seq, schedule.model.causal, schedule.model.head_share) == (128, True, 1)
    assert schedule.horizon == Duration(tokens=Fraction(2 * 10**9))
    assert schedule.seed == 17
    assert schedule.allow == {"partial"}
    flops, shapes, balance = schedule.requirements
    assert (flops.metric, flops.target, flops.options, flops.op) == ("flops", "total", {"case": "worst"}, "<=")
    assert flops.value == Amount(value=Fraction(3, 4))
    assert (shapes.target, shapes.value) == ("all", Amount(value=Fraction(1), is_count=True))
    assert balance.options == {"groups": "4"}


def test_model_words_override_a_named_shape_and_what_follows_from_it() -> None:
    model = schedule_of("model bert-base heads=16 hidden=1024\nstage steps=rest").model
    assert model is not None
    assert (model.kv_heads, model.head_dim, model.layers) == (16, 64, 12)


def test_every_mistake_is_reported_and_each_once() -> None:
    codes = codes_of(
        "let half = 1/0\nstage depth=half steps=half\nstage depth=half steps=10%\nstage dept=1 steps=1%\nrun x steps=1%"
    )
    assert codes == ["division-by-zero", "unknown-attribute", "unknown-schedule"]


def test_mistakes_that_follow_from_syntax_errors_are_not_reported() -> None:
    assert codes_of("let half = 1/\nstage depth=half steps=50%\nstage steps=40%") == ["value-missing"]


# --- origins --------------------------------------------------------------------------------------------


def test_origins_lead_to_the_text_and_to_what_expanded_it() -> None:
    files = {"grow.raptr": "param a: fraction\nkeep depth=first\nramp stages=2 depth=a..11/12 steps=100%"}
    text = 'use "grow.raptr"\nrepeat 2 {\n  run grow(a=6/12) steps=20%\n}\nstage steps=rest scale=none'
    _, origins, _ = lowered(text.replace(" scale=none", ""), files)
    size_origin = origins.at(("stages", 3, "axes", "depth", "size"))
    assert size_origin.text == "a..11/12"
    assert [label.text for label in size_origin.chain] == ["stage 2 of 2", "run from here", "pass 2 of 2"]
    assert [label.span.source.name for label in size_origin.chain] == ["grow.raptr", "main.raptr", "main.raptr"]
    span = origins.span(("stages", 3, "duration"))
    assert span is not None
    assert (span.source.name, span.text) == ("grow.raptr", "steps=100%")
    assert origins.at(("stages", 0, "axes", "depth", "keep")).text == "first"
    last = origins.at(("stages", 4, "axes", "depth", "size"))
    assert (last.text, last.chain) == ("stage steps=rest", ())


def test_origins_of_the_header() -> None:
    _, origins, _ = lowered("steps 100\nrequire flops <= 75%\nstage steps=rest")
    span = origins.span(("horizon",))
    assert span is not None
    assert span.text == "steps 100"
    assert origins.at(("requirements", 0)).text == "75%"
    assert origins.span(("seed",)) is None


def test_one_mistake_is_reported_once_however_often_it_is_met() -> None:
    assert codes_of("default sample=balancd\nstage depth=1/2 width=1/2 steps=50%\nstage steps=rest") == ["unknown-word"]
    assert codes_of("stage depth=1/2 width=1/2 scale=sqr steps=50%\nstage steps=rest") == ["unknown-word"]
    files = {"part.raptr": "param n: int = 1\nstage depth=n/12 steps=60%\nstage steps=60%"}
    text = 'use "part.raptr"\nrun part(n=2) steps=50%\nrun part(n=3) steps=50%'
    assert codes_of(text, files) == ["stages-overrun"]
    assert codes_of("repeat 3 { stage dept=6/12 steps=10% }\nstage steps=rest") == ["unknown-attribute"]


def test_what_a_block_defines_ends_with_it() -> None:
    block = "repeat 2 {{ let half = 1/2\nstage depth=half steps=10% }}\n{}\nstage steps=rest"
    assert codes_of(block.format("let half = 1/3")) == []
    assert codes_of(block.format("stage depth=half steps=1%")) == ["unknown-name"]
    assert codes_of("let half = 1/3\n" + block.format("")) == ["name-taken"]


def test_rule_14_a_last_stage_that_may_be_dropped_is_not_judged() -> None:
    text = "param w: steps = 0\nstage steps=50%\nstage steps=50%\nstage depth=6/12 steps=w"
    assert codes_of(text) == []


def test_a_file_is_read_once_however_often_it_is_imported() -> None:
    loads: list[str] = []

    def load(path: str, diagnostics: Diagnostics) -> Source | None:
        loads.append(path)
        return Source(path, 'use "./c.raptr"\nrun c steps=100%' if path == "a.raptr" else "stage steps=100%")

    text = 'use "a.raptr"\nuse "./c.raptr" as c\nuse "b/../c.raptr" as d\n'
    text += "run a steps=50%\nrun c steps=25%\nrun d steps=25%"
    diagnostics = Diagnostics()
    schedule, _ = lower(parse(Source("main.raptr", text), diagnostics), diagnostics, loader=load)
    assert schedule is not None
    assert sorted(loads) == ["a.raptr", "c.raptr"]


def test_ramps_do_not_explode() -> None:
    text = "ramp stages=20000 depth=1/12..11/12 steps=1/1000\n" * 300 + "stage steps=rest"
    assert codes_of(text) == ["limit-stages"]


def test_lists_of_unlike_shares_stay_within_the_limit() -> None:
    listed = ", ".join(f"1/{10**30 + 2 * i + 1}" for i in range(3000))
    assert codes_of(f"ramp shares=[{listed}] depth=1/12..11/12 steps=50%\nstage steps=rest") == ["bad-shares"]


def test_a_schedule_under_another_name_is_told_by_that_name() -> None:
    (problem,) = check_text("use std/raptr as published\nrun raptr steps=rest\n").diagnostics
    assert problem.code == "unknown-schedule"
    assert problem.help == 'this file imports `published`; or import it: use "./raptr.raptr", or use LIBRARY/raptr'


def test_keep_among_attributes_leads_to_the_statement() -> None:
    (problem,) = check_text("stage depth=6/12 keep=[first] steps=rest\n").diagnostics
    assert problem.code == "unknown-attribute" and problem.fix is None
    assert problem.help == "`keep` is a statement of its own, of all stages: keep depth=[first, last]"
