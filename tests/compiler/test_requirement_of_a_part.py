"""Rule 11: what a file requires of itself does not count where it is run, and that is said."""

from pathlib import Path

from raptr_dsl import check_file

PART = "stage depth=6/12 steps=50%\nstage steps=rest\nrequire flops <= 10%\n"
WHOLE = """model bert-base
steps 1k
use "./part.raptr" as part
run part steps=50%
run part steps=25%
stage steps=rest
"""


def test_a_requirement_of_a_file_that_is_run_is_a_warning_at_its_place(tmp_path: Path) -> None:
    (tmp_path / "part.raptr").write_text(PART)
    (tmp_path / "whole.raptr").write_text(WHOLE)
    checked = check_file(tmp_path / "whole.raptr")
    (found,) = checked.diagnostics  # once, though the file is run twice
    assert (found.code, found.severity) == ("requirement-of-a-part", "warning")
    assert found.span is not None
    assert found.span.text == "require flops <= 10%"
    assert found.span.source.name.endswith("part.raptr")
    assert checked.plan is not None
    assert checked.plan.proven == ()


def test_the_same_requirement_in_the_root_is_proven_or_refuted(tmp_path: Path) -> None:
    (tmp_path / "part.raptr").write_text("model bert-base\nsteps 1k\n" + PART)
    (found,) = check_file(tmp_path / "part.raptr").diagnostics
    assert found.code == "requirement-refuted"
