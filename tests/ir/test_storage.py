"""Plan files: whole or not there, read without trust, each kind of damage with its own code."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raptr_dsl.axes import AXES
from raptr_dsl.diagnostics import RaptrError
from raptr_dsl.ir import storage
from raptr_dsl.ir.identity import hash_of
from raptr_dsl.ir.plan import Plan, load_plan
from raptr_dsl.ir.schedule import Profile
from tests.ir.test_plan import FOUR, plan, rule, stage
from tests.laws import drawn


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "bert.plan.json"
    FOUR.save(path)
    return path


def refusal(path: Path) -> tuple[str, str]:
    """The code of the one diagnostic, and everything it says."""
    with pytest.raises(RaptrError) as error:
        load_plan(path)
    (found,) = error.value.diagnostics
    assert found.subject == str(path)
    return found.code, " ".join((found.message, found.help, *found.notes))


def rewrite(path: Path, change: Callable[[dict[str, Any]], object], seal: bool = True) -> None:
    """Changes the content of a plan file; with `seal`, its checksum as well, as somebody bent on it would."""
    saved = json.loads(path.read_text())
    change(saved)
    if seal:
        del saved["checksum"]
        saved["checksum"] = hash_of(saved)
    path.write_text(json.dumps(saved))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn.plans())
def test_loaded_is_saved(tmp_path: Path, drawn_plan: Plan) -> None:
    path = tmp_path / "a.plan.json"
    drawn_plan.save(path)
    loaded = load_plan(str(path))
    assert loaded == drawn_plan and hash(loaded) == hash(drawn_plan)
    assert (loaded.digest, loaded.checksum) == (drawn_plan.digest, drawn_plan.checksum)
    assert all((loaded.masks(axis) == drawn_plan.masks(axis)).all() for axis in AXES)
    saved = json.loads(path.read_text())
    assert (saved["digest"], saved["checksum"]) == (loaded.digest, loaded.checksum)
    assert os.listdir(tmp_path) == ["a.plan.json"]


def test_a_plan_is_a_few_kilobytes_however_long(path: Path) -> None:
    assert path.stat().st_size < 1500
    long = plan(*FOUR.stages[:3], stage(75, 10**9))
    long.save(path)
    assert path.stat().st_size < 1500


def test_names_in_any_script(path: Path) -> None:
    plan(*FOUR.stages, name='ж"\n', doc="∑ ß \u2028").save(path)
    assert load_plan(path).name == 'ж"\n' and load_plan(path).doc == "∑ ß \u2028"


def test_spacing_and_line_ends_are_not_content(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert load_plan(path) == FOUR
    path.write_text(json.dumps(json.loads(path.read_text("utf-8-sig")), indent=4, sort_keys=True))
    assert load_plan(path) == FOUR


def test_missing(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.plan.json")[0] == "plan-missing"


def test_directory(tmp_path: Path) -> None:
    code, words = refusal(tmp_path)
    assert code == "plan-unreadable" and "folder" in words


def test_unreadable(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert refusal(path) == ("plan-unreadable", "the plan cannot be read: permission denied ")


def test_a_name_with_a_zero_byte(tmp_path: Path) -> None:
    assert refusal(tmp_path / "a\0b")[0] in ("plan-unreadable", "plan-missing")


def test_too_large(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "MOST_BYTES", 2**10)
    path.write_text(" " * 2**11)
    assert refusal(path)[0] == "plan-too-large"


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_truncated_anywhere(path: Path, data: st.DataObject) -> None:
    FOUR.save(path)
    text = path.read_bytes().rstrip()
    path.write_bytes(text[: data.draw(st.integers(0, len(text) - 1))])
    assert refusal(path)[0] == "plan-truncated"


NOT_JSON = {
    "schedule": b"stage depth=6/12 steps=20%\nstage steps=rest\n",
    "binary": b"\x80\x02}q\x00.",
    "text": b"hello",
    "two": b"{} {}",
    "nested": b"[" * 100_000 + b"]" * 100_000,
    "huge number": b'{"format": "raptr-plan-1", "seed": ' + b"9" * 10_000 + b"}",
    "not a number": b'{"format": "raptr-plan-1", "seed": NaN}',
    "float": b'{"format": "raptr-plan-1", "seed": 1e400}',
}


@pytest.mark.parametrize("content", NOT_JSON.values(), ids=NOT_JSON)
def test_not_json(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert refusal(path)[0] == "plan-not-json"


@pytest.mark.parametrize("content", [b"[]", b"3", b"{}", b"null", b'{"format": 3}', b'{"format": "gguf"}'])
def test_json_but_no_plan(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert refusal(path)[0] == "plan-not-a-plan"


def test_another_version(path: Path) -> None:
    rewrite(path, lambda saved: saved.update(format="raptr-plan-2"))
    code, words = refusal(path)
    assert code == "plan-version" and "raptr-plan-2" in words and "raptr-plan-1" in words
    FOUR.save(path)
    rewrite(path, lambda saved: saved.update(rng="mt19937"))
    assert refusal(path)[0] == "plan-version"


def test_tampered(path: Path) -> None:
    rewrite(path, lambda saved: saved["stages"][0]["axes"]["depth"]["sizes"][0].update(value="7"), seal=False)
    assert refusal(path)[0] == "plan-checksum"
    FOUR.save(path)
    rewrite(path, lambda saved: saved.pop("checksum"), seal=False)
    code, words = refusal(path)
    assert code == "plan-checksum" and "has no checksum" in words


def test_a_changed_byte_is_noticed(path: Path) -> None:
    original = path.read_bytes()
    for place in range(0, len(original), 7):
        changed = bytearray(original)
        changed[place] ^= 1
        path.write_bytes(changed)
        try:
            load_plan(path)
        except RaptrError:
            continue
        assert json.loads(changed) == json.loads(original), place  # spacing alone


def test_unknown_field(path: Path) -> None:
    rewrite(path, lambda saved: saved.update(grow="copy"))
    code, words = refusal(path)
    assert code == "plan-unknown-field" and "grow" in words
    FOUR.save(path)
    rewrite(path, lambda saved: saved["stages"][1]["axes"]["depth"].update(router="new"))
    code, words = refusal(path)
    assert code == "plan-unknown-field" and "stages[1].axes.depth.router" in words


def test_stated_digest_of_another_plan(path: Path) -> None:
    rewrite(path, lambda saved: saved.update(digest="0" * 64))
    code, words = refusal(path)
    assert code == "plan-digest" and "0" * 64 in words and FOUR.digest in words


INVALID: dict[str, tuple[Callable[[Any], object], str]] = {
    "gap": (lambda saved: saved["stages"].pop(1), "stages[1].start: 50 is not 25"),
    "size": (lambda saved: saved["stages"][0]["axes"]["depth"]["sizes"][0].update(value="99"), "99 is not between"),
    "law": (lambda saved: saved["stages"][0]["axes"]["depth"].update(law={"law": "magic"}), "stages[0].axes.depth.law"),
    "no law": (lambda saved: saved["stages"][0]["axes"]["depth"].pop("law"), "stages[0].axes.depth.law"),
    "type": (lambda saved: saved.update(stages="none"), "stages"),
    "bomb": (
        lambda saved: saved["stages"][0]["axes"]["depth"]["sizes"][0].update(value="1e999999999"),
        "should be a fraction such as 6/12",
    ),
    "zero": (lambda saved: saved["stages"][0]["axes"]["depth"]["sizes"][0].update(value="6/0"), "should be a fraction"),
    "negative": (lambda saved: saved.update(seed=-1), "seed"),
    "shape": (lambda saved: saved["shape"].update(layers=0), "shape.layers"),
    "missing": (lambda saved: saved.pop("stages"), "stages"),
    "another spelling": (lambda saved: saved.update(partial=False), "not written as raptr writes it"),
    "lenient type": (lambda saved: saved.update(seed="17"), "not written as raptr writes it"),
}


@pytest.mark.parametrize(("change", "words"), INVALID.values(), ids=INVALID)
def test_sealed_but_invalid(path: Path, change: Callable[[Any], object], words: str) -> None:
    rewrite(path, change)
    code, said = refusal(path)
    assert code == "plan-invalid" and words in said


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_sealed_nonsense_never_escapes_as_another_exception(path: Path, data: st.DataObject) -> None:
    """One value anywhere in a plan with everything in it becomes something else."""
    axes = {
        "depth": rule("systematic", [(0, 6), (3, 8)], profile=Profile(kind="linear"), every=3),
        "heads": rule("ranked", 2, arguments={"order": (3, 1, 0, 2)}, keep=(1,)),
        "width": rule(choices=(1, 2), idle="skip", scale="inverse"),
    }
    plan(stage(0, 25, **axes), stage(25, 26)).save(path)
    nonsense = st.sampled_from(
        [None, True, -1, 0, 2**70, "", "x", "1/0", "-3", "1e9", "9" * 2000, [], [[]], {}, {"law": "fixed"}, ["1"]]
    )

    def change(saved: dict[str, Any]) -> None:
        place: Any = saved
        while True:
            key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
            if not (isinstance(place[key], (dict, list)) and place[key]) or data.draw(st.integers(0, 3)) == 0:
                place[key] = data.draw(nonsense)
                return
            place = place[key]

    rewrite(path, change)
    codes: list[str] = []
    try:
        loaded = load_plan(path)
    except RaptrError as error:
        codes = [item.code for item in error.diagnostics]
    else:
        assert loaded.masks("depth").shape[0] == loaded.steps
    assert all(code.startswith("plan-") for code in codes)


def write_error(path: Path) -> tuple[str, str]:
    with pytest.raises(RaptrError) as error:
        FOUR.save(path)
    (found,) = error.value.diagnostics
    return found.code, found.message


def test_saving_to_nowhere(tmp_path: Path) -> None:
    assert write_error(tmp_path / "none" / "a.json") == (
        "plan-write",
        "the plan cannot be written: no such file or directory",
    )
    assert write_error(tmp_path)[0] == "plan-write"
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_plan(path: Path, failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = path.read_bytes()
    monkeypatch.setattr(os, failing, fail)
    code, message = write_error(path)
    assert (code, message) == ("plan-write", "the plan cannot be written: no space left on device")
    assert path.read_bytes() == before and os.listdir(path.parent) == [path.name]
