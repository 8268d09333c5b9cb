"""What a schedule that does not fit is told: the bad examples of the catalogue of binding, rendered."""

import tomllib
from pathlib import Path

import pytest

from raptr_dsl import check_text
from raptr_dsl.render import render_text

ROOT = Path(__file__).parents[2]
CODES = tomllib.loads((ROOT / "raptr_dsl" / "codes" / "bind.toml").read_text("utf-8"))
RUN_TWICE = """model bert-base
steps 1k
repeat 2 {
  stage depth=5/16 steps=25%
}
stage steps=rest
"""
RAMP = """model bert-base
steps 1k
ramp stages=4 depth=6/12..11/12 steps=50%
stage steps=rest
"""


@pytest.mark.parametrize("code", [code for code, entry in CODES.items() if "bad" in entry])
def test_bad_example_of_binding(code: str, golden) -> None:
    checked = check_text(CODES[code]["bad"].lstrip(), name=f"{code}.raptr", complete=True)
    golden(ROOT / "tests" / "golden" / "bind" / f"{code}.txt", render_text(checked.diagnostics) + "\n")


def test_a_size_in_a_repeat_says_so(golden) -> None:
    checked = check_text(RUN_TWICE, name="repeated.raptr", complete=True)
    golden(ROOT / "tests" / "golden" / "bind" / "repeated.txt", render_text(checked.diagnostics) + "\n")


def test_a_size_of_a_ramp_is_mended_in_the_ramp(golden) -> None:
    """One size in its place would end the ramp."""
    checked = check_text(RAMP, name="ramp.raptr", complete=True)
    golden(ROOT / "tests" / "golden" / "bind" / "ramp.txt", render_text(checked.diagnostics) + "\n")


def test_a_curve_that_ends_at_one_unit_is_told_of_the_whole() -> None:
    text = "model bert-base\nsteps 1k\nstage width=cosine(1/4, 1) steps=50%\nstage steps=rest\n"
    found = check_text(text, complete=True).diagnostics[-1]
    assert (found.code, found.help) == ("not-a-multiple", "write 100%, if 1 is to be the whole, or width=64")
