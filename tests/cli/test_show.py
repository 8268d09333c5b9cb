"""`raptr show`: pictures in the terminal and as SVG, of schedules and of plans."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.cli.conftest import BERT
from tests.cli.test_compile import EVERYTHING

GOLDEN = Path(__file__).parent.parent / "golden" / "cli"


def test_a_schedule_and_its_plan_look_the_same(raptr, bert, golden) -> None:
    done = raptr("show", bert.name)
    assert (done.code, done.err) == (0, "")
    golden(GOLDEN / "show.txt", done.out)
    raptr("compile", bert.name)
    assert raptr("show", "bert.plan.json").out == done.out


def test_everything_at_once(raptr, tmp_path, golden) -> None:
    (tmp_path / "all.raptr").write_text(EVERYTHING)
    done = raptr("show", "all.raptr", "--site", "1")
    assert (done.code, done.err) == (0, "")
    golden(GOLDEN / "show_everything.txt", done.out)


def test_without_the_characters_there_is_ascii(raptr, bert, golden, monkeypatch) -> None:
    import sys

    monkeypatch.setattr(type(sys.stdout), "encoding", "ascii", raising=False)
    done = raptr("show", bert.name, "--rows", "6")
    assert done.code == 0
    assert done.out.isascii()
    golden(GOLDEN / "show_ascii.txt", done.out)


@pytest.mark.parametrize("width", [40, 80, 133])
def test_no_line_is_wider_than_asked(raptr, tmp_path, width: int) -> None:
    (tmp_path / "all.raptr").write_text(EVERYTHING)
    lines = raptr("show", "all.raptr", "--width", str(width)).out.splitlines()
    assert max(map(len, lines)) == width


def test_one_axis(raptr, tmp_path) -> None:
    (tmp_path / "all.raptr").write_text(EVERYTHING)
    out = raptr("show", "all.raptr", "--axis", "heads").out
    assert "heads: heads that run, of 4" in out
    assert "depth:" not in out


def test_rows_are_at_most_as_many_as_asked(raptr, bert) -> None:
    out = raptr("show", bert.name, "--rows", "5").out
    assert [line.partition("│")[0].strip() for line in out.splitlines()[-4:]] == ["0-2", "3-5", "6-8", "9-11"]


def test_a_schedule_without_thinning_is_drawn_in_full(raptr, tmp_path) -> None:
    (tmp_path / "full.raptr").write_text("model bert-base\nsteps 100\nstage steps=rest\n")
    done = raptr("show", "full.raptr")
    assert done.code == 0
    assert "·" not in done.out


def test_mistakes_of_the_schedule(raptr, tmp_path) -> None:
    (tmp_path / "bad.raptr").write_text("stage depth=13/12 steps=rest\n")
    done = raptr("show", "bad.raptr", "--model", "bert-base", "--steps", "10")
    assert (done.code, done.out) == (1, "")
    assert "error[" in done.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--steps", "5"], "bert.plan.json is a plan, which --steps cannot change"),
        (["--param", "a=1", "--seed", "0"], "which --param, --seed cannot change"),
        (["--site", "12"], "the model's blocks are 0 to 11"),
        (["--width", "39"], "39 is less than 40"),
        (["--rows", "0"], "0 is less than 1"),
        (["--axis", "length"], "'length'"),
    ],
)
def test_wrong_usage(raptr, bert, options: list[str], said: str) -> None:
    raptr("compile", bert.name)
    done = raptr("show", "bert.plan.json", *options)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


@pytest.mark.parametrize("content", ['{"format": "raptr-plan-1"', "{}", '{"a": 1}'])
def test_a_plan_that_is_none(raptr, tmp_path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    done = raptr("show", "x.json")
    assert (done.code, done.out) == (1, "")
    assert "error[plan-" in done.err


def test_svg(raptr, tmp_path) -> None:
    (tmp_path / "all.raptr").write_text(EVERYTHING)
    done = raptr("show", "all.raptr", "--svg", "all.svg")
    assert (done.code, done.out, done.err) == (0, "", "picture: all.svg\n")
    root = ET.parse(tmp_path / "all.svg").getroot()
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "Every axis at once, <b>random</b> and drawn" in texts
    first = (tmp_path / "all.svg").read_bytes()
    assert raptr("show", "all.raptr", "--svg", "all.svg").code == 0  # an older picture is replaced
    assert (tmp_path / "all.svg").read_bytes() == first


def test_svg_of_a_file_whose_name_is_no_text(raptr, tmp_path) -> None:
    (tmp_path / "a\udcff.raptr").write_text(BERT)
    assert raptr("show", "a\udcff.raptr", "--svg", "a.svg").code == 0
    ET.parse(tmp_path / "a.svg")


def test_svg_does_not_overwrite_what_is_no_picture(raptr, bert) -> None:
    done = raptr("show", bert.name, "--svg", bert.name)
    assert done.code == 1
    assert "error[output-exists]" in done.err
    assert bert.read_text() == BERT
    assert raptr("show", bert.name, "--svg", bert.name, "--force").code == 0
    assert bert.read_text().startswith("<svg")


def test_svg_that_cannot_be_written(raptr, bert) -> None:
    done = raptr("show", bert.name, "--svg", "no/such/x.svg")
    assert done.code == 1
    assert "error[output-write]" in done.err
