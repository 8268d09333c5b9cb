"""`raptr lib`, `new`, `doc`, `publish`: the commands around libraries, from the outside."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from raptr_dsl.resources import schedule_directory

TINY = "layers = 12\nheads = 4\nhidden = 64\nffn = 1536\nvocab = 64\nseq = 8\nbatch = 2\ntied = false\n"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


def test_from_a_new_library_to_a_verified_project(raptr, tmp_path: Path) -> None:
    assert raptr("lib", "new", "acme").code == 0
    assert raptr("lib", "new", "acme").code == 1, "nothing is written over"
    assert raptr("publish", "--check", "acme/acme_schedules").code == 0
    added = raptr("lib", "add", "acme", "./acme/acme_schedules")
    assert added.code == 0 and "locked 1 library and std 0.1.0 in ." in added.err
    (tmp_path / "main.raptr").write_text("use acme/small\nrun small(small=4/12) steps=rest\n")
    assert raptr("check", "main.raptr").code == 0
    listed = raptr("lib", "list").out.splitlines()
    assert listed[0] == "std 0.1.0  comes with raptr"
    assert "acme 0.1.0  Apache-2.0  ./acme/acme_schedules" in listed
    assert "  acme/small  Half of the blocks, then all of them: say here where the method comes from" in listed
    files = 2 + len(list(schedule_directory().glob("*.raptr")))
    assert raptr("lib", "verify").err == f"{files} files of 1 library and std 0.1.0, no errors\n"
    assert raptr("lib", "vendor").code == 0
    schedule = tmp_path / "raptr_libraries" / "acme" / "small.raptr"
    schedule.write_text(schedule.read_text() + "#")
    refused = raptr("check", "main.raptr")
    assert refused.code == 1 and "error[library-changed]" in refused.err and refused.err.count("sha256:") == 2
    assert raptr("lib", "verify").code == 1


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["lib", "add", "std", "./x"], "library-name"),
        (["lib", "add", "acme", "./nowhere"], "library-file"),
        (["lib", "add", "acme", "/etc"], "library-address"),
        (["lib", "update", "acme"], "library-unknown"),
        (["lib", "update"], "library-manifest"),
        (["lib", "lock"], "library-manifest"),
        (["lib", "verify"], "library-lock"),
        (["lib", "vendor"], "library-lock"),
        (["new", "a.raptr", "--from", "std/rapter"], "library-export"),
        (["new", "a.raptr", "--from", "acme/x"], "library-unknown"),
        (["doc", "."], "library-manifest"),
        (["publish", "--check", "."], "library-manifest"),
    ],
)
def test_what_goes_wrong_is_told_and_writes_nothing(raptr, tmp_path: Path, arguments: list[str], code: str) -> None:
    done = raptr(*arguments)
    assert (done.code, done.out) == (1, "")
    assert f"error[{code}]" in done.err
    assert not list(tmp_path.iterdir())


def test_new_begins_from_a_template_and_writes_over_nothing(raptr, tmp_path: Path) -> None:
    assert raptr("new", "mine.raptr", "--from", "std/pld").code == 0
    assert (tmp_path / "mine.raptr").read_text().startswith("# Begun from std/pld")
    assert raptr("check", "mine.raptr", "--model", "bert-base", "--steps", "1000").code == 0
    again = raptr("new", "mine.raptr")
    assert again.code == 1 and "output-exists" in again.err
    listed = raptr("new", "--list").out
    assert len(listed.splitlines()) == len(list(schedule_directory().glob("*.raptr")))
    assert "as in std/pld" in raptr("new", "other.raptr", "--from", "pld").err
    assert raptr("new").code == 2 and raptr("new", "mine.txt").code == 2


def test_doc_is_one_page_of_html_or_markdown_with_pictures(raptr, tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(TINY)
    model = ["--model", "tiny.toml", "--steps", "240"]
    assert raptr("doc", "std", "-o", "std.html", *model).code == 0
    page = (tmp_path / "std.html").read_text()
    assert page.count("<svg") >= 20 and "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "not for this model" in page, "schedules of 24 blocks do not fit 12"
    assert raptr("doc", "std", *model).code == 0
    text = (tmp_path / "std.md").read_text()
    assert "| `p_max` | `fraction` | `1% .. 99%` | `20%` |" in text
    assert "75% of the block FLOPs of full training (1.333x)" in text
    pictures = list((tmp_path / "std_pictures").iterdir())
    assert all(f"std_pictures/{picture.name}" in text for picture in pictures) and len(pictures) == page.count("<svg")
    ET.parse(pictures[0])
    assert raptr("doc", "std", "-o", "std.pdf").code == 2


def test_doc_shows_hostile_text_as_text(raptr, tmp_path: Path) -> None:
    manifest = 'name = "x"\nversion = "1.0.0"\nlicence = "<i>"\nexports = ["a"]\n'
    (tmp_path / "raptr.toml").write_text(manifest)
    (tmp_path / "a.raptr").write_text('doc "<script>alert(1)</script>"\n# </pre><b>\nstage steps=rest\n')
    assert raptr("doc", ".", "-o", "x.html").code == 0
    page = (tmp_path / "x.html").read_text()
    assert "<script" not in page and "</pre><b>" not in page and "<i>" not in page


def test_publish_says_what_the_version_has_to_be(raptr, tmp_path: Path) -> None:
    raptr("lib", "new", "old", "--name", "acme")
    raptr("lib", "new", "new", "--name", "acme")
    schedule = tmp_path / "new" / "acme_schedules" / "small.raptr"
    against = ["--against", "./old/acme_schedules"]
    assert raptr("publish", "--check", "new/acme_schedules", *against).code == 0
    schedule.write_text(schedule.read_text().replace("50%", "40%"))
    refused = raptr("publish", "--check", "new/acme_schedules", *against)
    assert refused.code == 1
    assert refused.out.startswith("breaking  small: comes to another plan")
    assert "make it 0.2.0 or more" in refused.err
    manifest = tmp_path / "new" / "acme_schedules" / "raptr.toml"
    manifest.write_text(manifest.read_text().replace("0.1.0", "0.2.0"))
    assert raptr("publish", "--check", "new/acme_schedules", *against).code == 0
    schedule.write_text(schedule.read_text().replace("depth=small", "depth=smal"))
    assert "error[unknown-name]" in raptr("publish", "--check", "new/acme_schedules").err
    assert raptr("publish", "--check", "new/acme_schedules", "--against", "git+https://h/x").code in (1, 2)


@pytest.mark.parametrize(
    "words", [("lib", "add", "acme", "./acme"), ("doc", "./acme"), ("publish", "--check", "./acme")]
)
def test_the_folder_around_a_library_leads_to_it(raptr, words: tuple[str, ...]) -> None:
    raptr("lib", "new", "acme")
    done = raptr(*words)
    assert done.code == 1
    assert re.search(r"help: did you mean (\./)?acme/acme_schedules\?", done.err)
    assert re.search(r"there is no folder (\./)?nowhere", raptr(*words[:-1], "./nowhere").err)


def test_a_folder_of_pictures_that_cannot_be_made(raptr, tmp_path: Path) -> None:
    (tmp_path / "x_pictures").write_text("in the way")
    done = raptr("doc", "std", "-o", "x.md")
    assert done.code == 1
    assert "error[output-write]: this folder cannot be made: file exists" in done.err


@pytest.mark.parametrize("words", [("doc",), ("publish", "--check")])
def test_a_folder_that_is_not_there_is_told_so(raptr, words: tuple[str, ...]) -> None:
    assert "error[library-manifest]: there is no folder nowhere" in raptr(*words, "nowhere").err
