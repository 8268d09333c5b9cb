"""Where no single number meets what is required: one in each of two stages, or the one that comes nearest."""

import pytest

from raptr_dsl import check_text
from raptr_dsl.compiler.solving import pairs
from raptr_dsl.diagnostics import Diagnostic, with_edits

HEAD = "model bert-base\nsteps 1000\nkeep depth=[first, last]\n"
FOUR = "".join(f"stage depth={size}/12 steps=25%\n" for size in (6, 8, 10)) + "stage steps=rest\n"


def refuted(requirement: str, stages: str = FOUR) -> tuple[str, Diagnostic]:
    """A file and what is said of its requirement."""
    text = f"{HEAD}{stages}require {requirement}\n"
    (found,) = check_text(text, complete=True).diagnostics
    assert found.code == "requirement-refuted"
    return text, found


def test_two_sizes_of_two_stages_are_changed_by_as_little_as_will_do() -> None:
    text, found = refuted("flops <= 55%")
    assert found.help.startswith("write depth=4/12 instead of depth=8/12 and depth=4/12 instead of depth=10/12, or ")
    assert [label.text for label in found.related] == ["write depth=4/12 here"] * 2
    assert found.fix is not None
    mended = with_edits(text, [found.fix])
    assert check_text(mended, complete=True).ok
    assert mended == text.replace("8/12", "4/12").replace("10/12", "4/12"), "nothing else is touched"
    assert not check_text(mended.replace("4/12", "5/12"), complete=True).ok, "nor does less of both"


def test_a_size_of_one_stage_and_the_time_of_another() -> None:
    stages = "let k = 8/12\nstage depth=k steps=40%\nstage depth=10/12 steps=20%\nstage steps=rest\n"
    text, found = refuted("flops <= 65%", stages)
    assert found.fix is not None and found.fix.text == "67%\nstage depth=4/12"
    assert check_text(with_edits(text, [found.fix]), complete=True).ok


@pytest.mark.parametrize("requirement", ["flops <= 5%", "mean(depth) <= 3"])
def test_where_two_do_not_do_either_the_nearest_is_named(requirement: str) -> None:
    _, found = refuted(requirement)
    assert found.fix is None and found.help.startswith("change the stages, or require <=")
    assert found.notes[-1].startswith("no one number does it: depth=2/12 instead of depth=10/12 comes nearest, where ")
    assert found.related[-1].text == "depth=2/12 comes nearest" and found.related[-1].span.text == "depth=10/12"


def test_a_pair_whose_text_would_not_do_is_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "written", lambda bench, number, trial: "11/12")
    _, found = refuted("flops <= 55%")
    assert found.fix is None and "comes nearest" in found.notes[-1]
