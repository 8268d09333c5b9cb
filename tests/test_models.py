"""Model shapes from TOML files: exact, and refused in words."""

from fractions import Fraction
from pathlib import Path

import pytest

from raptr_dsl.diagnostics import RaptrError
from raptr_dsl.models import find_shape
from raptr_dsl.wording import parse_share

WORDS = "layers = 4\nheads = 4\nhidden = 64\nffn = 256\nvocab = 258\nseq = 20\n"


@pytest.mark.parametrize("written", ["0.15", '"0.15"', '"15%"', '"3/20"'])
def test_a_share_is_what_is_written_to_the_last_digit(tmp_path: Path, written: str) -> None:
    (tmp_path / "model.toml").write_text(f"{WORDS}head_share = {written}\n")
    shape = find_shape(str(tmp_path / "model.toml"))
    assert shape.head_share == Fraction(3, 20)
    assert shape.head_positions == 3


@pytest.mark.parametrize("line", ["head_share = inf", "head_share = nan", 'head_share = "1e999999999"', "batch = 2.0"])
def test_what_is_no_number_of_that_word_is_refused_by_name(tmp_path: Path, line: str) -> None:
    (tmp_path / "model.toml").write_text(WORDS + line)
    with pytest.raises(RaptrError) as raised:
        find_shape(str(tmp_path / "model.toml"))
    (diagnostic,) = raised.value.diagnostics
    assert diagnostic.code == "bad-model-file" and line.split()[0] in diagnostic.message


@pytest.mark.parametrize("text", ["", "%", "-5%", "1e999999999", "1e-3", "nan", "1/0", "٣%", "1_0%", "half"])
def test_what_is_no_share_is_none(text: str) -> None:
    assert parse_share(text) is None


@pytest.mark.parametrize(("text", "share"), [("75%", "3/4"), (" 3/4 ", "3/4"), ("0.75", "3/4"), ("12.5%", "1/8")])
def test_a_share_is_exact(text: str, share: str) -> None:
    assert parse_share(text) == Fraction(share)
