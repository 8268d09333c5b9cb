"""`raptr diff`: what counts as a difference, and exit codes as those of diff(1)."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import raptr_dsl
from raptr_dsl.ir.plan import Plan
from raptr_dsl.report import difference
from raptr_dsl.report.difference import differences
from tests.axes import PARTS
from tests.cli import conftest
from tests.laws.drawn import plans

BERT = conftest.BERT.replace("675k", "1200")
GOLDEN = Path(__file__).parent.parent / "golden" / "cli"


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    (tmp_path / "bert.raptr").write_text(BERT)
    return tmp_path / "bert.raptr"


@pytest.fixture
def other(tmp_path: Path):
    """Writes another version of the schedule."""

    def write(text: str) -> str:
        (tmp_path / "other.raptr").write_text(text)
        return "other.raptr"

    return write


SAME = {
    "comments and layout": BERT.replace("steps 1200", "# a run\n\nsteps  1_200").replace("25%", "1/4"),
    "names": BERT.replace("six", "first").replace("doc", "# doc"),
    "a stage in two parts": BERT.replace("steps=25%\nstage full", "steps=10%\nstage depth=10/12 steps=15%\nstage full"),
    "spelled otherwise": BERT.replace("default sample=fixed scale=sqrt\n", "").replace("/12 ", "/12 scale=sqrt "),
    "shares reduced": BERT.replace("6/12", "1/2").replace("steps=rest", "steps=25%"),
}


@pytest.mark.parametrize("name", SAME)
def test_what_does_not_count(raptr, bert, other, name: str) -> None:
    done = raptr("diff", bert.name, other(SAME[name]))
    assert (done.code, done.err) == (0, "")
    assert "mean the same" in done.out
    told = json.loads(raptr("diff", bert.name, "other.raptr", "--format", "json").out)
    assert told["equal"] and told["differences"] == []


CHANGED = {
    "seed": (BERT.replace("seed 17", "seed 18"), "schedule", "seed"),
    "size": (BERT.replace("8/12", "9/12"), "stage eight", "depth"),
    "law": (BERT.replace("6/12", "6/12 sample=balanced"), "stage six", "depth.law"),
    "law's parameter": (BERT.replace("6/12", "6/12 sample=stratified(groups=2)"), "stage six", "depth.law"),
    "scale": (BERT.replace("6/12", "6/12 scale=linear"), "stage six", "depth.scale"),
    "keep": (BERT.replace("[first, last]", "[first]"), "stage six", "depth.keep"),
    "every": (BERT.replace("6/12", "6/12 every=stage"), "stage six", "depth.every"),
    "idle": (BERT.replace("6/12", "6/12 idle=skip"), "stage six", "depth.idle"),
    "axis": (BERT.replace("6/12", "6/12 width=1/2"), "stage six", "width"),
    "duration": (BERT.replace("8/12  steps=25%", "8/12 steps=20%"), "stage eight", "steps"),
    "new stage": (BERT.replace("stage full", "stage wide width=1/2 steps=5%\nstage full"), "stage wide", ""),
    "horizon": (BERT.replace("1200", "600"), "schedule", "steps"),
    "model": (BERT.replace("bert-base", "bert-base batch=128"), "model", "batch"),
    "requirement": (BERT + "require shapes <= 4\n", "requirements", "shapes(all) <= 4"),
    "partial": (BERT + "allow partial\n", "schedule", "partial"),
    "what trains": (BERT.replace("6/12", "6/12 depth.train=fixed(2)"), "stage six", "depth.train"),
    "frozen parts": (BERT.replace("stage ten ", "stage ten freeze=[embed, head] "), "stage ten", "freeze"),
    "a profile": (BERT.replace("10/12", "10/12 sample=bernoulli profile=linear"), "stage ten", "depth.profile"),
    "a climb": (BERT.replace("8/12", "8/12 rewarm=5"), "stage eight", "rewarm"),
    "curve": (BERT.replace("6/12", "6/12..12/12"), "stage six", "depth"),
}


@pytest.mark.parametrize("name", CHANGED)
def test_what_counts(raptr, bert, other, name: str) -> None:
    text, where, what = CHANGED[name]
    done = raptr("diff", bert.name, other(text), "--format", "json")
    assert (done.code, done.err) == (1, "")
    told = json.loads(done.out)
    assert not told["equal"]
    (change,) = [one for one in told["differences"] if (one["where"], one["what"]) == (where, what)]
    assert change["a"] != change["b"]
    assert {one["where"] for one in told["differences"]} <= {where, "cost", "plan", "requirements", "stage full",
                                                             "stage six", "stage eight", "stage ten"}  # fmt: skip
    shown = raptr("diff", bert.name, "other.raptr")
    assert shown.code == 1 and where in shown.out


def test_table(raptr, bert, other, golden) -> None:
    text = BERT.replace("8/12  steps=25%", "9/12 steps=30% scale=linear").replace(
        "stage full", "stage w width=1/2 steps=5%\nstage full"
    )
    done = raptr("diff", bert.name, other(text))
    assert done.code == 1
    golden(GOLDEN / "diff.txt", done.out)
    assert max(map(len, done.out.splitlines())) <= 80


def test_values_that_read_alike_are_told_in_full(raptr, bert, other) -> None:
    profiles = [BERT.replace("10/12", f"10/12 sample=bernoulli profile=linear(1/{n}, 1)") for n in (2, 3)]
    bert.write_text(profiles[0])
    done = raptr("diff", bert.name, other(profiles[1]), "--format", "json")
    (change,) = [one for one in json.loads(done.out)["differences"] if one["what"] == "depth.profile"]
    assert '"1/2"' in change["a"] and '"1/3"' in change["b"]


def test_plans_and_schedules(raptr, bert, other) -> None:
    raptr("compile", bert.name)
    assert raptr("diff", "bert.plan.json", bert.name).code == 0
    assert raptr("diff", "bert.plan.json", bert.name, "--seed", "3").code == 1
    assert raptr("diff", bert.name, "bert.plan.json").code == 0


def test_a_requirement_that_does_not_hold_is_compared(raptr, bert, other) -> None:
    done = raptr("diff", bert.name, other(BERT.replace("8/12", "9/12")), "--format", "json")
    assert done.code == 1
    changes = json.loads(done.out)["differences"]
    (change,) = [one for one in changes if one["where"] == "requirements"]
    assert change["a"] == "75%" and change["b"].startswith("does not hold: ")
    assert "digest" in [one["what"] for one in changes]


@pytest.mark.parametrize("text", ["stage depth=13/12 steps=rest\n", "stage steps=\n"])
def test_what_cannot_be_compiled_is_trouble(raptr, bert, other, text: str) -> None:
    done = raptr("diff", bert.name, other(text))
    assert (done.code, done.out) == (2, "")
    assert "error[" in done.err
    done = raptr("diff", bert.name, "other.raptr", "--format", "json")
    told = json.loads(done.out)
    assert (done.code, done.err, told["equal"]) == (2, "", None) and told["diagnostics"]


def test_trouble(raptr, bert, tmp_path) -> None:
    assert raptr("diff", bert.name).code == 2
    assert raptr("diff", bert.name, "nothing.raptr").code == 2
    (tmp_path / "open.raptr").write_text("stage steps=100%\n")
    assert raptr("diff", "open.raptr", bert.name).code == 2
    (tmp_path / "bad.json").write_text("{}")
    assert raptr("diff", "bad.json", bert.name).code == 2
    assert raptr("diff", "open.raptr", "open.raptr", "--model", "bert-base", "--steps", "10").code == 0


@settings(max_examples=30, deadline=None)
@given(*[st.lists(st.sampled_from(PARTS), min_size=1, unique=True).flatmap(lambda axes: plans(axes=tuple(axes)))] * 2)
def test_plans_differ_exactly_where_their_digests_do(one: Plan, other: Plan) -> None:
    assert not differences(one, one, {}, {})
    assert bool(differences(one, other, {}, {})) == (one.digest != other.digest)
    back = differences(other, one, {}, {})
    assert bool(back) == (one.digest != other.digest)


def test_a_great_many_stages_are_compared_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(difference, "ALIGNED", 50)
    text = "model layers=12 heads=1 hidden=4 ffn=4 vocab=3 seq=2\nsteps 200\n"
    many = "".join(f"stage depth={3 + k % 7}/12 steps=1\n" for k in range(100)) + "stage steps=rest\n"
    one, other = raptr_dsl.compile_text(text + many), raptr_dsl.compile_text(text + many.replace("=5/12", "=2/12", 1))
    stages = [change for change in differences(one, other, {}, {}) if change.where.startswith("stage")]
    assert [(change.mine, change.theirs) for change in stages] == [("5/12", "2/12")]


def test_the_side_without_a_model_is_named(raptr, bert, tmp_path) -> None:
    (tmp_path / "open.raptr").write_text("stage steps=rest\n")
    done = raptr("diff", bert.name, "open.raptr")
    assert done.code == 2
    assert "error[no-model]" in done.err and "─ open.raptr" in done.err
