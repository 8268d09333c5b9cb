"""The numbers of the language: counts, shares, exact arithmetic (rules 1–3)."""

from fractions import Fraction

import pytest

from raptr_dsl.ir.schedule import Amount, Exactly, Varying
from tests.compiler.lowering import codes_of, lowered, schedule_of, shares, size


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
