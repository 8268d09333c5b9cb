"""`raptr compile`: the summary, the plan it writes, and what it refuses."""

import json
import os
from fractions import Fraction
from pathlib import Path

import pytest

import raptr_dsl
from tests.cli.conftest import BERT

GOLDEN = Path(__file__).parent.parent / "golden" / "cli"

EVERYTHING = """\
doc "Every axis at once, <b>random</b> and drawn"
model layers=4 heads=4 hidden=64 ffn=1024 vocab=500 seq=32 batch=2
steps 1_000
seed 3
keep depth=[first]
stage warm steps=50
stage both steps=450 {
  depth=1/2..4/4 depth.sample=balanced depth.scale=sqrt
  heads=1/2 heads.sample=rotate heads.scale=linear
  width=1/2 width.every=20 width.idle=skip
}
stage random depth=3/4 depth.sample=bernoulli depth.scale=inverse steps=30%
stage width=draw(1/8, 1/4, 1/2, 100%) steps=150
stage steps=rest
"""


def test_summary_and_plan(raptr, bert, tmp_path, golden) -> None:
    done = raptr("compile", bert.name)
    assert (done.code, done.err) == (0, "")
    golden(GOLDEN / "compile.txt", done.out)
    plan = raptr_dsl.load_plan(tmp_path / "bert.plan.json")
    assert plan == raptr_dsl.compile_file(bert)
    assert plan.digest in done.out
    assert max(map(len, done.out.splitlines())) <= 80


def test_summary_of_everything_at_once(raptr, tmp_path, golden) -> None:
    (tmp_path / "all.raptr").write_text(EVERYTHING)
    done = raptr("compile", "all.raptr", "-o", "out.json")
    assert done.code == 0, done.err
    golden(GOLDEN / "compile_everything.txt", done.out)
    assert max(map(len, done.out.splitlines())) <= 80


def test_a_summary_fits_on_a_screen(raptr, tmp_path) -> None:
    stages = "ramp stages=200 depth=round(1/12..12/12) steps=100%\n"
    (tmp_path / "many.raptr").write_text("model bert-base\nsteps 100k\n" + stages)
    done = raptr("compile", "many.raptr")
    assert done.code == 0, done.err
    assert "176 more" in done.out
    assert len(done.out.splitlines()) <= 45


def test_json(raptr, bert, tmp_path) -> None:
    told = json.loads(raptr("compile", bert.name, "--format", "json", "-o", "p.json").out)
    plan = raptr_dsl.load_plan(tmp_path / "p.json")
    assert told["diagnostics"] == []
    assert told["plan"]["written"] == "p.json"
    for name in ("digest", "checksum", "seed", "steps", "shapes", "name", "doc"):
        assert told["plan"][name] == getattr(plan, name)
    report = plan.flops()
    assert Fraction(told["plan"]["flops"]["blocks"]) == report.blocks
    assert Fraction(told["plan"]["flops"]["full_total"]) == report.full_total
    assert told["plan"]["flops"]["ratio_blocks"] == "3/4"
    assert [Fraction(stage["flops"]["blocks"]) for stage in told["plan"]["stages"]] == [
        stage.blocks for stage in report.stages
    ]
    assert told["plan"]["proven"][0]["text"] == "flops(blocks) <= 75%"


def test_json_of_a_failure_has_the_same_form(raptr, bert) -> None:
    done = raptr("compile", bert.name, "--format", "json", "--budget", "10%")
    assert done.code == 1
    told = json.loads(done.out)
    assert told["plan"] is None
    assert [diagnostic["code"] for diagnostic in told["diagnostics"]] == ["requirement-refuted"]


def test_what_is_left_open_has_to_be_given(raptr, tmp_path) -> None:
    (tmp_path / "open.raptr").write_text("stage depth=6/12 steps=50%\nstage steps=rest\n")
    done = raptr("compile", "open.raptr")
    assert (done.code, done.out) == (1, "")
    assert "--model" in done.err
    assert raptr("compile", "open.raptr", "--model", "bert-base").code == 1
    assert not (tmp_path / "open.plan.json").exists()
    assert raptr("compile", "open.raptr", "--model", "bert-base", "--steps", "1k", "--seed", "5").code == 0
    assert raptr_dsl.load_plan(tmp_path / "open.plan.json").seed == 5


def test_options_win_over_the_file(raptr, bert, tmp_path) -> None:
    (tmp_path / "small.toml").write_text("layers = 24\nheads = 2\nhidden = 64\nffn = 128\nvocab = 9\nseq = 8\n")
    done = raptr("compile", bert.name, "--model", "small.toml", "--steps", "2M", "--seed", "1_0")
    assert done.code == 0, done.err
    plan = raptr_dsl.load_plan(tmp_path / "bert.plan.json")
    assert (plan.shape.layers, plan.steps, plan.seed) == (24, 2_000_000, 10)


def test_parameters(raptr, tmp_path) -> None:
    stages = "stage depth=start steps=50%\nstage steps=rest\n"
    head = "param start: fraction in 1/12 .. 1 = 6/12\nmodel bert-base\nsteps 1k\n"
    (tmp_path / "p.raptr").write_text(head + stages)
    assert raptr("compile", "p.raptr", "--param", "start=3/12").code == 0
    plan = raptr_dsl.load_plan(tmp_path / "p.plan.json")
    assert plan.stages[0].axes["depth"].sizes[0].value == 3
    assert raptr("compile", "p.raptr", "--param", "start=2").code == 2


def test_the_plan_is_written_where_the_command_runs_not_beside_the_schedule(raptr, tmp_path) -> None:
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "bert.v2.raptr").write_text(BERT)
    assert raptr("compile", "library/bert.v2.raptr").code == 0
    assert (tmp_path / "bert.v2.plan.json").exists()
    assert os.listdir(tmp_path / "library") == ["bert.v2.raptr"]


# --- where it may write ---------------------------------------------------------------------------------


def test_an_older_plan_is_replaced(raptr, bert, tmp_path) -> None:
    raptr("compile", bert.name)
    assert raptr("compile", bert.name, "--seed", "18").code == 0
    assert raptr_dsl.load_plan(tmp_path / "bert.plan.json").seed == 18


@pytest.mark.parametrize("content", [BERT, '{"name": "package"}', "", "\x00\x01"])
def test_another_file_is_not_overwritten_unless_forced(raptr, bert, tmp_path, content: str) -> None:
    (tmp_path / "precious").write_text(content)
    done = raptr("compile", bert.name, "-o", "precious")
    assert (done.code, done.out) == (1, "")
    assert "error[output-exists]" in done.err
    assert "--force" in done.err
    assert (tmp_path / "precious").read_text() == content
    assert raptr("compile", bert.name, "-o", "precious", "--force").code == 0
    assert raptr_dsl.load_plan(tmp_path / "precious").steps == 675_000


def test_the_schedule_itself_is_not_overwritten(raptr, bert) -> None:
    assert raptr("compile", bert.name, "-o", bert.name).code == 1
    assert bert.read_text() == BERT


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_directories_and_devices_are_never_replaced(raptr, bert, tmp_path, force: list[str]) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "pipe"):
        done = raptr("compile", bert.name, "-o", name, *force)
        assert (done.code, done.out) == (1, "")
        assert "error[output-exists]" in done.err
    assert (tmp_path / "folder").is_dir()
    assert (tmp_path / "pipe").is_fifo()


def test_a_folder_that_is_not_there(raptr, bert, tmp_path) -> None:
    done = raptr("compile", bert.name, "-o", "no/such/plan.json")
    assert done.code == 1
    assert "error[plan-write]" in done.err
    assert not (tmp_path / "no").exists()


def test_a_disk_that_fails_leaves_the_old_plan_and_nothing_else(raptr, bert, tmp_path, monkeypatch) -> None:
    raptr("compile", bert.name)
    before = (tmp_path / "bert.plan.json").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    done = raptr("compile", bert.name, "--seed", "18")
    assert (done.code, done.out) == (1, "")
    assert "no space left on device" in done.err
    assert (tmp_path / "bert.plan.json").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["bert.plan.json", "bert.raptr"]


def test_a_plan_is_compiled_already(raptr, bert, tmp_path) -> None:
    raptr("compile", bert.name, "-o", "p.json")
    before = (tmp_path / "p.json").read_bytes()
    done = raptr("compile", "p.json", "-o", "p.json", "--seed", "18")
    assert (done.code, done.out) == (1, "")
    assert "error[file-is-plan]" in done.err
    assert (tmp_path / "p.json").read_bytes() == before


def test_a_refused_schedule_leaves_no_plan(raptr, tmp_path) -> None:
    (tmp_path / "bad.raptr").write_text("stage depth=13/12 steps=rest\n")
    assert raptr("compile", "bad.raptr", "--model", "bert-base", "--steps", "1k").code == 1
    assert os.listdir(tmp_path) == ["bad.raptr"]


# --- backends -------------------------------------------------------------------------------------------


def test_a_backend_that_can_run_it(raptr, bert) -> None:
    for name in ("reference", "torch"):
        assert raptr("compile", bert.name, "--backend", name).code == 0


def test_a_backend_that_is_not_there(raptr, bert, tmp_path) -> None:
    done = raptr("compile", bert.name, "--backend", "touch")
    assert (done.code, done.out) == (2, "")
    assert "did you mean torch?" in done.err
    assert not (tmp_path / "bert.plan.json").exists()


def test_a_backend_that_cannot_run_it_says_what_and_where(raptr, bert, monkeypatch, tmp_path) -> None:
    from dataclasses import replace

    from raptr_dsl import registry

    able = registry.load("reference")
    monkeypatch.setattr(able, "capabilities", replace(able.capabilities, scales=frozenset({"none"})))
    done = raptr("compile", bert.name, "--backend", "reference")
    assert (done.code, done.out) == (1, "")
    assert "error[backend-unsupported]: the reference backend has no scale=sqrt" in done.err
    assert "six, eight, ten" in done.err
    assert not (tmp_path / "bert.plan.json").exists()


def test_a_backend_without_its_framework_is_only_a_note(raptr, bert, monkeypatch) -> None:
    from importlib.metadata import PackageNotFoundError

    from raptr_dsl import registry

    def missing(name: str):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(registry, "distribution", missing)
    done = raptr("compile", bert.name, "--backend", "torch")
    assert done.code == 0
    assert 'pip install "raptr-dsl[torch]"' in done.err
