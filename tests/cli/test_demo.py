"""`raptr demo`, with a tiny model and a small text: the table, the picture, and that no interruption is a trap."""

import io
import json
import re
import shutil
import signal
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from raptr_dsl.cli import demo, main
from raptr_dsl.training import RunSummary, read_journal
from tests.training.toys import files_in

TINY = {"layers": 12, "heads": 2, "hidden": 16, "ffn": 16, "vocab": 258, "seq": 16, "batch": 2}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The text, the model, and a finished demo with what it said."""
    path = tmp_path_factory.mktemp("home")
    (path / "tiny.toml").write_text("".join(f"{name} = {value}\n" for name, value in TINY.items()))
    (path / "text.txt").write_text("".join(f"{n} times {n} is {n * n}.\n" for n in range(3000)))
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        prepare(path, patch)
        assert main(["demo", *options(path), "--out", str(path / "demo-out")]) == 0, err.getvalue()
    (path / "out.txt").write_text(out.getvalue())
    (path / "err.txt").write_text(err.getvalue())
    return path


def prepare(path: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("XDG_CACHE_HOME", str(path / "cache"))
    patch.setenv("COLUMNS", "100")
    patch.setattr(demo, "DATA", str(path / "text.txt"))
    patch.setattr(demo, "EVAL_BATCHES", 2)


def options(path: Path) -> list[str]:
    return ["--model", str(path / "tiny.toml"), "--steps", "40"]


@pytest.fixture
def run(home: Path, raptr: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`raptr demo` with the options of the finished one, in a folder of its own."""
    prepare(home, monkeypatch)
    return lambda *more: raptr("demo", *options(home), *more)


@pytest.fixture
def finished(home: Path, tmp_path: Path) -> Path:
    """A copy of the finished demo, where `run` looks for it."""
    shutil.copytree(home / "demo-out", tmp_path / "demo-out")
    return tmp_path / "demo-out"


def summaries(folder: Path) -> dict[str, RunSummary]:
    return {name: RunSummary.model_validate_json((folder / name / "summary.json").read_bytes()) for name in demo.RUNS}


def test_it_ends_with_a_table_and_a_picture_of_two_runs_of_equal_flops(home: Path) -> None:
    out, said = home / "demo-out", (home / "out.txt").read_text()
    found = summaries(out)
    step = found["dense"].flops // found["dense"].steps
    assert abs(found["raptr"].flops - found["dense"].flops) <= step // 2
    assert found["raptr"].steps == 40
    for summary in found.values():
        assert f"{summary.held_out_loss:.4f}" in said
        assert f"{summary.flops:,}" in said
    for word in ("small", "medium", "large", "full", "realised ÷ ideal", "whole run"):
        assert word in said
    assert (out / "demo.png").read_bytes().startswith(b"\x89PNG")
    assert "nats per byte" in (out / "demo.svg").read_text()
    record = json.loads((out / "demo.json").read_bytes())
    assert [stage["blocks"] for stage in record["result"]["speeds"]] == [6, 8, 10, 12]


def test_the_two_runs_take_turns(home: Path) -> None:
    err = (home / "err.txt").read_text()
    for one, other in (("RaPTr", "dense"), ("dense", "RaPTr")):
        assert err.index(f"{one} 0/") < err.rindex(f"{other} ")
    evaluations = [line.split(" ")[0] for line in err.splitlines() if "held-out loss" in line]
    assert len(list(groupby(evaluations))) > 10


def test_the_verdict_names_whoever_won(home: Path) -> None:
    found = summaries(home / "demo-out")
    raptr_won = (found["raptr"].held_out_loss or 0) < (found["dense"].held_out_loss or 0)
    verdict = re.search(r"At equal FLOPs (RaPTr|the dense run) ended", (home / "out.txt").read_text())
    assert verdict is not None
    assert (verdict[1] == "RaPTr") == raptr_won


def test_a_finished_demo_is_shown_again_without_training(run, finished: Path, home: Path) -> None:
    before = files_in(finished)
    again = run()
    assert again.code == 0
    assert "shown again" in again.err
    whole = summaries(home / "demo-out")["raptr"]
    assert f"{whole.held_out_loss:.4f}" in again.out
    del before[".lock"]
    assert {name: content for name, content in files_in(finished).items() if name != ".lock"} == before


def test_an_interrupted_demo_goes_on_where_it_stopped(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from raptr_dsl.training import loop

    evaluate, out = loop.Run._evaluate, tmp_path / "demo-out"

    def interrupted(self) -> None:
        evaluate(self)
        if self.step >= 10:
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with monkeypatch.context() as patch:
        patch.setattr(loop.Run, "_evaluate", interrupted)
        stopped = run()
    signal.signal(signal.SIGINT, before)
    assert stopped.code == 128 + signal.SIGINT
    assert "raptr demo --out demo-out" in stopped.err
    assert not (out / "demo.png").exists()
    done = run()
    assert done.code == 0, done.err
    assert "goes on" in done.err
    steps = [line["step"] for line in read_journal(out / "raptr" / "log.jsonl") if line["event"] == "train"]
    assert steps == sorted(set(steps))
    assert steps[-1] == 40


def test_a_demo_with_other_options_is_not_mixed_with_what_is_there(run, raptr, finished: Path, home: Path) -> None:
    before = files_in(finished)
    refused = raptr("demo", "--model", home / "tiny.toml", "--steps", "41")
    assert refused.code == 1
    assert "demo-out-other" in refused.err
    assert "--fresh" in refused.err
    assert files_in(finished).keys() == before.keys()


def test_fresh_throws_away_a_demo_and_nothing_else(run, finished: Path) -> None:
    (finished / "notes.txt").write_text("mine")
    (finished / "demo.json").write_text("{")
    assert "demo-out-other" in run().err
    assert run("--fresh").code == 0
    assert (finished / "notes.txt").read_text() == "mine"
    assert read_journal(finished / "raptr" / "log.jsonl")[-1]["holds"]


def test_what_is_not_a_demo_is_not_touched_even_by_fresh(run, tmp_path: Path) -> None:
    (tmp_path / "demo-out").mkdir()
    (tmp_path / "demo-out" / "thesis.tex").write_text("years of work")
    for more in ((), ("--fresh",)):
        refused = run(*more)
        assert refused.code == 1
        assert "demo-out-foreign" in refused.err
    assert [path.name for path in (tmp_path / "demo-out").iterdir()] == ["thesis.tex"]


def test_without_matplotlib_it_refuses_before_it_trains(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "find_spec", lambda name: None)
    refused = run()
    assert refused.code == 1
    assert "demo-needs" in refused.err
    assert not (tmp_path / "demo-out").exists()
