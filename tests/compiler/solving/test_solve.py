"""Rule 40: holes are solved exactly, by the law that is written down, or refused with the reason."""

import tomllib
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raptr_dsl import check_text, compile_text
from raptr_dsl.api import Options, check_file
from raptr_dsl.diagnostics import with_edits
from raptr_dsl.render import render_text

ROOT = Path(__file__).parents[3]
CODES = tomllib.loads((ROOT / "raptr_dsl" / "codes" / "solve.toml").read_text("utf-8"))
BERT = "model bert-base\nsteps 1200\n"


def solved(text: str, options: Options | None = None) -> list[str]:
    """What the holes of a text are, in order; the text with these values compiles and has no holes."""
    found = check_text(text, options or Options(), complete=True)
    assert found.ok and found.solution, render_text(found.diagnostics)
    written = with_edits(text, found.solution)
    again = check_text(written, options or Options(), complete=True)
    assert again.ok and not again.solution
    assert again.result().digest == found.result().digest
    return [edit.text for edit in found.solution]


def refused(text: str) -> str:
    """The code of the only error of a text."""
    (code,) = [item.code for item in check_text(text, complete=True).diagnostics if item.severity == "error"]
    return code


@pytest.mark.parametrize("code", [code for code, entry in CODES.items() if "bad" in entry])
def test_bad_example_of_holes(code: str, golden) -> None:
    checked = check_text(CODES[code]["bad"].lstrip(), name=f"{code}.raptr")
    golden(ROOT / "tests" / "golden" / "solve" / f"{code}.txt", render_text(checked.diagnostics) + "\n")


@pytest.mark.parametrize(
    ("stages", "values"),
    [
        ("stage depth=6/12 steps=?\nstage steps=rest\nrequire flops == 75%", ["50%"]),
        ("stage depth=6/12 steps=?\nstage steps=rest\nrequire flops <= 80%", ["40%"]),
        ("stage depth=6/12 steps=?\nstage steps=rest\nrequire mean(depth) >= 75%\nrequire flops <= 80%", ["40%"]),
        ("stage depth=6/12 steps=?\nstage steps=30%", ["70%"]),
        ("stage depth=6/12 steps=200\nstage depth=6/12 steps=?\nstage steps=300", ["700"]),
        ("stage depth=6/12 steps=?\nstage width=1/2 steps=?\nstage steps=rest\n"
         "require flops == 75%\nrequire mean(depth) == 80%", ["40%", "1/6"]),
        ("stage depth=6/12 steps=?\nstage steps=?\nrequire flops == 75%", ["50%", "50%"]),
        ("repeat 3 { stage depth=6/12 steps=?; stage steps=100 }", ["300"]),
        ("repeat 3 steps=? { stage depth=6/12 steps=?; stage steps=50% }\nstage steps=rest\nrequire flops <= 77.5%",
         ["90%", "50%"]),
        ("repeat 2 steps=? { stage depth=6/12 steps=120; stage depth=8/12 steps=120 }\nstage steps=rest", ["40%"]),
        ("ramp stages=3 depth=6/12..10/12 steps=?\nstage steps=rest\nrequire flops == 80%", ["60%"]),
    ],
)  # fmt: skip
def test_rule_40_durations_by_tiling_and_equations(stages: str, values: list[str]) -> None:
    assert solved(BERT + stages) == values


@pytest.mark.parametrize(
    ("stages", "values"),
    [
        ("stage depth=? steps=50%\nstage steps=rest\nrequire flops <= 75%", ["6/12"]),
        ("stage depth=? steps=50%\nstage steps=rest\nrequire flops <= 74%", ["5/12"]),
        ("stage heads=? steps=50%\nstage steps=rest\nrequire mean(heads) == 9", ["6/12"]),
        ("stage width=? steps=50%\nstage steps=rest\nrequire mean(width) <= 74%", ["23/48"]),
        ("stage depth=? sample=stratified(groups=4) steps=50%\nstage steps=rest\nrequire flops <= 80%", ["4/12"]),
        ("stage depth=? steps=?\nstage steps=rest\nrequire flops <= 75%", ["8/12", "75%"]),
        ("ramp stages=2 depth=? width=1/2..100% steps=50%\nstage steps=rest\nrequire mean(depth) <= 75%", ["6/12"]),
    ],
)
def test_rule_40_sizes_are_the_largest_that_hold(stages: str, values: list[str]) -> None:
    assert solved(BERT + stages) == values


def test_rule_40_whole_steps_for_what_counts_them() -> None:
    text = "model bert-base\nsteps 1000\nstage depth=6/12 sample=prefix steps=?\nstage steps=rest\n"
    assert solved(text + "require coverage(depth) == 333\n") == ["66.7%"]
    text = "model bert-base\nsteps 1000\nstage steps=?\nstage depth=6/12 sample=prefix steps=rest\nallow partial\n"
    assert solved(text + "require gap(depth) >= 700\n") == ["30%"]


def test_a_curve_changes_its_mean_with_its_length() -> None:
    text = "model bert-base\nsteps 1000\nstage depth=6/12..12/12 steps=?\nstage steps=rest\n"
    (share,) = solved(text + "require flops == 77%\n")
    assert compile_text(text.replace("?", share) + "require flops == 77%\n").proven


def test_rule_37_tokens_are_seen_in_shares_of_durations() -> None:
    """Relative to as many tokens, FLOPs are a quotient of two linear functions of the durations."""
    text = BERT + "stage seq=50% depth=6/12 steps=?\nstage steps=rest\nrequire flops(per=tokens) == 80%\n"
    (share,) = solved(text)
    report = compile_text(text.replace("?", share)).flops()
    steps = Fraction(share) if share[-1] != "%" else Fraction(share[:-1]) / 100
    seen = 1 - (steps if steps < 1 else steps / 1200) / 2
    assert abs(report.ratio_blocks / seen - Fraction(4, 5)) < Fraction(1, 1000)
    assert refused(text.replace("(per=tokens)", "")) == "bad-requirement"


def test_a_metric_of_an_axis_that_the_model_lacks() -> None:
    two = "model layers=6 heads=8 hidden=512 ffn=2048 vocab=1000 seq=128 source_seq=512\nsteps 100\n"
    two += "stage depth=50% steps=50%\nstage steps=rest\n"
    for metric in ("mean(seq) <= 80%", "coverage(positions) >= 1", "final(seq) == 100%"):
        assert refused(f"{two}require {metric}\n") == "bad-requirement"


def test_the_budget_of_the_caller_is_a_requirement() -> None:
    text = BERT + "stage depth=6/12 steps=?\nstage steps=rest\n"
    assert solved(text, Options(budget="80%")) == ["40%"]
    assert solved(text.replace(BERT, ""), Options("bert-base", 1000, budget="75%")) == ["50%"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("stage depth=6/12 steps=?\nstage steps=rest", "hole-undecided"),
        ("stage depth=6/12 steps=?\nstage steps=rest\nrequire flops <= 100%", "hole-undecided"),
        ("stage depth=6/12 steps=?\nstage steps=rest\nrequire mean(heads) == 100%", "hole-undecided"),
        ("stage depth=? steps=50%\nstage steps=rest", "hole-undecided"),
        ("stage depth=? steps=50%\nstage steps=rest\nrequire mean(heads) == 100%", "hole-undecided"),
        ("stage depth=6/12 steps=?\nstage steps=?", "hole-ambiguous"),
        (
            "stage depth=6/12 steps=?\nstage depth=8/12 steps=?\nstage steps=rest\nrequire flops == 80%",
            "hole-ambiguous",
        ),
        ("stage depth=? steps=25%\nstage depth=? steps=25%\nstage steps=rest\nrequire flops <= 75%", "hole-ambiguous"),
        ("stage depth=6/12 steps=?\nstage steps=rest\nrequire flops <= 40%", "hole-infeasible"),
        ("stage depth=? steps=50%\nstage steps=rest\nrequire flops == 74%", "hole-infeasible"),
        ("stage depth=6/12 steps=?\nstage steps=60%\nstage steps=60%", "hole-infeasible"),
        ("stage depth=6/12 steps=?\nstage steps=rest\nrequire balance(depth, groups=5) == 0", "bad-requirement"),
        ("stage depth=5/16 steps=?\nstage steps=rest\nrequire flops <= 75%", "not-whole"),
        ("stage depth=6/12 tokens=?\nstage steps=rest\nrequire flops <= 75%", "misplaced-hole"),
        ("stage depth=round(?) steps=50%\nstage steps=rest\nrequire flops <= 75%", "misplaced-hole"),
        ("stage depth=6/12 steps=50%\nstage steps=rest\nrequire flops <= ?", "misplaced-hole"),
        ("param k: fraction = ?\nstage depth=6/12 steps=50%\nstage steps=rest", "misplaced-hole"),
    ],
)
def test_what_cannot_be_solved_is_refused_by_name(text: str, code: str) -> None:
    assert refused(BERT + text) == code


def test_without_a_model_a_hole_waits_for_one() -> None:
    text = "stage depth=6/12 steps=?\nstage steps=rest\nrequire flops <= 75%\n"
    assert [item.code for item in check_text(text).diagnostics] == ["hole-needs-model"]
    assert [item.code for item in check_text(text, complete=True).diagnostics] == ["no-model"]


def test_the_other_mistakes_of_a_file_with_holes_are_told() -> None:
    text = BERT + "let haf = 1/2\nstage depth=half steps=?\nstage scale=sqr depth=6/12 steps=10%\nstage steps=rest\n"
    assert {item.code for item in check_text(text).diagnostics} == {"unknown-name", "unknown-word"}
    text = BERT + "stage depth=6/12 steps=?\nstge steps=rest\nrequire flops <= 75%\n"
    (found,) = check_text(text).diagnostics
    assert found.code == "statement-unknown"


def test_a_part_has_no_holes_of_its_own(tmp_path: Path, golden) -> None:
    (tmp_path / "part.raptr").write_text("stage depth=6/12 steps=?\nstage steps=rest\nrequire flops <= 75%\n")
    root = tmp_path / "root.raptr"
    root.write_text(f'{BERT}use "./part.raptr" as part\nrun part steps=50%\nstage steps=rest\n')
    errors = [item for item in check_file(root).diagnostics if item.severity == "error"]
    assert [item.code for item in errors] == ["hole-in-a-part"]
    (tmp_path / "part.raptr").write_text("stage depth=6/12 steps=50%\nstage steps=rest\n")
    root.write_text(f'{BERT}use "./part.raptr" as part\nrun part steps=?\nstage steps=rest\nrequire flops <= 80%\n')
    assert [edit.text for edit in check_file(root).solution] == ["80%"]


def test_question_marks_in_comments_and_texts_are_no_holes() -> None:
    text = f'doc "why?"\n{BERT}# steps=?\nstage depth=6/12 steps=50%\nstage steps=rest\n'
    found = check_text(text, complete=True)
    assert found.ok and not found.solution and not found.diagnostics


SHARES = st.integers(1, 8).map(lambda n: f"{n}/24")
SIZES = st.integers(1, 11).map(lambda k: f"{k}/12")


@settings(max_examples=25, deadline=None)
@given(size=SIZES, other=SIZES, share=SHARES, budget=st.integers(30, 99), steps=st.integers(200, 2000))
def test_a_solved_duration_is_the_last_that_meets_its_budget(
    size: str, other: str, share: str, budget: int, steps: int
) -> None:
    """The stage is as short as the budget lets it: a little shorter, and the budget does not hold."""
    text = f"model bert-base\nsteps {steps}\nstage depth={size} steps=?\nstage depth={other} steps={share}\n"
    text += f"stage steps=rest\nrequire flops <= {budget}%\n"
    found = check_text(text, complete=True)
    if not found.ok:
        codes = {item.code for item in found.diagnostics}
        assert codes <= {"hole-infeasible", "hole-undecided"}
        # The law, by the formula: 1 − d(1 − k/12) − s(1 − j/12) ≤ budget.
        missing = 1 - Fraction(share) * (1 - Fraction(other)) - Fraction(budget, 100)
        needed = missing / (1 - Fraction(size))
        assert needed <= 0 or needed >= 1 - Fraction(share) or needed * steps < 1
        return
    (edit,) = found.solution
    exact = found.result().stages[0].duration
    shorter = (exact - Fraction(1, 1000)) / steps
    if shorter > Fraction(1, steps):
        with_less = check_text(text.replace("?", f"{shorter.numerator}/{shorter.denominator}"), complete=True)
        assert {item.code for item in with_less.diagnostics} == {"requirement-refuted"}
    assert check_text(with_edits(text, [edit]), complete=True).ok


@settings(max_examples=20, deadline=None)
@given(
    axis=st.sampled_from(["depth", "heads", "width"]),
    law=st.sampled_from(["fixed", "balanced", "prefix", "bernoulli", "systematic"]),
    share=SHARES,
    requirement=st.sampled_from(["flops <= {}%", "mean({}) <= {}%", "flops(total) <= {}%"]),
    budget=st.integers(40, 99),
)
def test_a_solved_size_is_the_largest_that_meets_its_budget(
    axis: str, law: str, share: str, requirement: str, budget: int
) -> None:
    words = requirement.format(*((axis, budget) if requirement.count("{}") == 2 else (budget,)))
    text = f"{BERT}stage {axis}=? sample={law} steps={share}\nstage steps=rest\nrequire {words}\n"
    found = check_text(text, complete=True)
    units = 48 if axis == "width" else 12

    def holds(size: int) -> bool:
        return check_text(text.replace("?", f"{size}/{units}"), complete=True).ok

    if not found.ok:
        assert {item.code for item in found.diagnostics} == {"hole-infeasible"} and not holds(1)
        return
    (edit,) = found.solution
    size = int(edit.text.partition("/")[0])
    assert holds(size) and (size == units or not holds(size + 1))
