"""The edit beside a refuted requirement: whatever is printed makes the file pass, and nothing less of it does."""

import subprocess
import sys
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raptr_dsl import check_text
from raptr_dsl.compiler.solving import repair
from raptr_dsl.compiler.solving.trial import Bench
from raptr_dsl.diagnostics import Diagnostic, with_edits

BERT = "model bert-base\nsteps 1200\n"


def refuted(text: str, **options: object) -> list[Diagnostic]:
    return [item for item in check_text(text, complete=True).diagnostics if item.code == "requirement-refuted"]


def proposed(text: str) -> str:
    """The edit of the first refuted requirement, as it is printed at its place; "" if there is none."""
    found = refuted(text)[0]
    if found.fix is None:
        return ""
    assert check_text(with_edits(text, [found.fix]), complete=True).ok
    assert found.help.startswith("write ") and found.related[-1].text == f"{found.help.partition(' instead')[0]} here"
    return found.related[-1].text.removeprefix("write ").removesuffix(" here")


@pytest.mark.parametrize(
    ("stages", "edit"),
    [
        ("stage depth=6/12 steps=50%\nstage steps=rest\nrequire flops <= 70%", "steps=60%"),
        ("stage depth=6/12 steps=50%\nstage steps=rest\nrequire flops == 80%", "steps=40%"),
        ("stage depth=6/12 steps=50%\nstage steps=50%\nrequire flops <= 70%", "depth=4/12"),
        ("stage depth=6 steps=600\nstage steps=600\nrequire flops <= 70%", "depth=4/12"),
        ("stage depth=6/12 steps=600\nstage steps=rest\nrequire flops <= 70%", "steps=60%"),
        ("repeat 2 { stage depth=6/12 steps=25% }\nstage steps=rest\nrequire flops <= 70%", "steps=30%"),
        ("stage depth=6/12 sample=prefix steps=50%\nstage steps=rest\nrequire gap(depth) <= 300", "steps=25%"),
        ("stage depth=6/12 steps=50%\nstage steps=rest\nrequire flops <= 70%\nrequire mean(depth) <= 60%", "steps=80%"),
        ("let half = 6/12\nstage depth=half steps=half\nstage steps=rest\nrequire flops <= 70%", ""),
        ("stage depth=6/12 steps=50%\nstage steps=rest\nrequire shapes == 3", ""),
        ("stage depth=6/12 steps=50%\nstage steps=rest\nrequire flops <= 1%", ""),
    ],
)
def test_the_smallest_edit(stages: str, edit: str) -> None:
    assert proposed(BERT + stages) == edit


def test_an_edit_whose_text_would_not_do_is_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last word has the text with the edit, compiled as any other."""
    text = BERT + "stage depth=6/12 steps=50%\nstage steps=rest\nrequire flops <= 70%"
    assert proposed(text) == "steps=60%"
    monkeypatch.setattr(repair, "written", lambda *_: "55%")
    assert proposed(text) == ""


def test_the_budget_of_the_caller_points_at_the_dearest_stage() -> None:
    from raptr_dsl.api import Options

    text = BERT + "stage depth=6/12 steps=50%\nstage steps=rest\n"
    (found,) = check_text(text, Options(budget="70%"), complete=True).diagnostics
    assert found.span is not None and found.span.text == "stage steps=rest"
    assert found.fix is not None and found.fix.text == "60%"


def test_a_dropped_stage_of_a_parameter_does_not_confuse_the_places() -> None:
    from raptr_dsl.api import Options

    text = BERT + "param warm: steps = 10%\nstage depth=6/12 steps=warm\nstage depth=6/12 steps=50%\nstage steps=rest\n"
    found = check_text(text, Options(budget="70%", params={"warm": "0%"}), complete=True).diagnostics
    assert [item.code for item in found if item.severity == "error"] == ["requirement-refuted"]


SHARES = st.integers(1, 11)


@settings(max_examples=30, deadline=None)
@given(
    stages=st.lists(
        st.tuples(
            st.integers(1, 12), SHARES, st.sampled_from(["depth", "width", "heads"]),
            st.sampled_from(["fixed", "balanced", "prefix", "bernoulli", "stratified(groups=4)"]),
        ),
        min_size=1, max_size=4,
    ),
    requirements=st.lists(
        st.tuples(
            st.sampled_from(["flops", "mean(depth)", "coverage(depth)", "flops(total, case=worst)", "mean(width)"]),
            st.sampled_from(["<=", ">=", "=="]), st.integers(40, 99),
        ),
        min_size=1, max_size=2,
    ),
    ends_with_rest=st.booleans(),
)  # fmt: skip
def test_no_edit_is_printed_that_does_not_make_the_file_pass(
    stages: list[tuple[int, int, str, str]], requirements: list[tuple[str, str, int]], ends_with_rest: bool
) -> None:
    whole = sum(share for _, share, _, _ in stages) + 3
    text = "model bert-base\nsteps 240\n"
    for size, share, axis, law in stages:
        text += f"stage {axis}={size}/12 sample={law} steps={share}/{whole}\n"
    text += "stage steps=rest\n" if ends_with_rest else f"stage steps=3/{whole}\n"
    text += "".join(f"require {metric} {op} {value}%\n" for metric, op, value in requirements)
    for found in refuted(text):
        if found.fix is not None:
            assert check_text(with_edits(text, [found.fix]), complete=True).ok


@settings(max_examples=25, deadline=None)
@given(size=st.integers(1, 11), share=st.integers(1, 19), budget=st.integers(20, 99))
def test_of_a_duration_nothing_less_would_do(size: int, share: int, budget: int) -> None:
    text = f"model bert-base\nsteps 1000\nlet k = {size}/12\nstage depth=k steps={share * 5}%\nstage steps=rest\n"
    text += f"require flops <= {budget}%\n"
    found = refuted(text)
    if not found:
        return
    needed = (1 - Fraction(budget, 100)) / (1 - Fraction(size, 12))
    assert (found[0].fix is not None) == (needed < 1 and 1 - needed >= Fraction(1, 2000))
    if found[0].fix is None:
        return
    text_of_share = found[0].fix.text
    value = Fraction(text_of_share.removesuffix("%")) / (100 if text_of_share.endswith("%") else 1)
    assert value == needed or value == needed * 1000


def test_advice_is_bounded_however_long_the_file_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passes are counted, not timed: what is printed does not depend on the machine."""
    tried = 0
    original = Bench._pass

    def counting(self: Bench, values: tuple[Fraction, ...]):
        nonlocal tried
        tried += 1
        return original(self, values)

    monkeypatch.setattr(Bench, "_pass", counting)
    for stages in (1, 20, 150, 1000):
        tried = 0
        rows = "".join(f"stage depth={k % 11 + 1}/12 steps=1/{stages + 1}\n" for k in range(stages))
        assert refuted(f"model bert-base\nsteps 10k\n{rows}stage steps=rest\nrequire flops == 1/7\n")
        assert (tried - 2) * (stages + 4) <= 300 + 200 and (stages < 1000 or not tried)


def test_a_file_that_holds_loads_no_solver() -> None:
    text = BERT + "stage depth=6/12 steps=50%  # why?\nstage steps=rest\nrequire flops <= 75%\n"
    code = f"import sys; from raptr_dsl import check_text; assert check_text({text!r}).ok; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "raptr_dsl.compiler.verify" in loaded
    assert not [name for name in loaded if name.startswith("raptr_dsl.compiler.solving.s") or name.endswith(".repair")]
