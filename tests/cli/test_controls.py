"""`raptr controls`: the files it writes, and what it leaves alone."""

import os

import raptr_dsl
from raptr_dsl.controls import CONTROLS


def test_files(raptr, bert, tmp_path) -> None:
    done = raptr("controls", bert, "--out", "controls")
    assert (done.code, done.err) == (0, "")
    names = {f"bert-{name}.raptr" for name in CONTROLS}
    assert set(os.listdir(tmp_path / "controls")) == names
    checked = raptr("check", "controls")
    assert checked.code == 0 and "no errors" in checked.err
    plan = raptr_dsl.compile_file(bert)
    step = plan.flops().full_total / plan.steps
    for name in names:
        control = raptr_dsl.compile_file(tmp_path / "controls" / name)
        assert abs(control.flops().total - plan.flops().total) <= step
        assert f"controls/{name}" in done.out
    assert "step 512,251, not 675,000" in " ".join(done.out.split())


def test_without_a_folder_it_only_tells(raptr, bert, tmp_path) -> None:
    done = raptr("controls", bert)
    assert done.code == 0 and "--out" in done.err
    assert os.listdir(tmp_path) == ["bert.raptr"]
    assert [line.split()[0] for line in done.out.splitlines() if line[0] != " "] == ["control", *CONTROLS]


def test_what_cannot_be_derived(raptr, tmp_path) -> None:
    (tmp_path / "dense.raptr").write_text("model bert-base\nsteps 10\nstage steps=100%\n")
    done = raptr("controls", "dense.raptr", "--out", "c")
    assert done.code == 0
    assert done.out.count("not derived") == 3
    assert os.listdir(tmp_path / "c") == ["dense-dense.raptr"]


def test_its_own_files_are_replaced_and_no_others(raptr, bert, tmp_path) -> None:
    assert raptr("controls", bert, "--out", "c").code == 0
    assert raptr("controls", bert, "--out", "c", "--seed", "5").code == 0
    path = tmp_path / "c" / "bert-reversed.raptr"
    assert raptr_dsl.compile_file(path).seed == 5
    path.write_text("stage steps=100%\n")
    before = (tmp_path / "c" / "bert-dense.raptr").read_bytes()
    done = raptr("controls", bert, "--out", "c", "--seed", "6")
    assert (done.code, done.out) == (1, "")
    assert "error[output-exists]" in done.err
    assert path.read_text() == "stage steps=100%\n"
    assert (tmp_path / "c" / "bert-dense.raptr").read_bytes() == before
    assert raptr("controls", bert, "--out", "c", "--seed", "6", "--force").code == 0


def test_other_accounts(raptr, bert) -> None:
    steps = {convention: raptr("controls", bert, "--convention", convention).out for convention in ("6nd", "megatron")}
    assert "506,250" in steps["6nd"]  # three quarters of 675,000
    assert "539,826" in steps["megatron"]  # 20447/25567: the head counts at every position
    done = raptr("controls", bert, "--convention", "megatorn")
    assert (done.code, done.out) == (2, "")
    assert "error[bad-account]" in done.err and "did you mean megatron?" in done.err


def test_a_folder_that_cannot_be_made(raptr, bert, tmp_path) -> None:
    done = raptr("controls", bert, "--out", "bert.raptr/sub")
    assert done.code == 1
    assert "error[output-write]" in done.err


def test_plans_have_controls_too(raptr, bert, tmp_path) -> None:
    raptr("compile", bert)
    assert raptr("controls", "bert.plan.json", "--out", "a").code == raptr("controls", bert, "--out", "b").code == 0
    for name in os.listdir(tmp_path / "a"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
