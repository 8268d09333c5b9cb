"""Which changes of a library break its users."""

from pathlib import Path

import pytest

from raptr_dsl.library.manifest import read_manifest
from raptr_dsl.library.tree import read_folder
from raptr_dsl.report.compatibility import Level, Version, changes, is_enough, required_version

MANIFEST = 'name = "acme"\nversion = "1.2.3"\nlicence = "MIT"\nexports = ["small"]\n'
TEXT = """\
doc "small, then all"
param small: fraction in 4/12 .. 1 = 6/12
param factor: choice(sqrt, none) = sqrt
stage half depth=small scale=factor steps=50%
stage steps=rest
"""


def version(folder: Path, text: str = TEXT, manifest: str = MANIFEST, **others: str) -> Version:
    folder.mkdir()
    for name, content in {"raptr.toml": manifest, "small.raptr": text, **others}.items():
        (folder / name).write_text(content)
    return Version(read_manifest(manifest.encode(), "acme"), folder, read_folder(folder, "acme"))


@pytest.mark.parametrize(
    ("text", "level", "said"),
    [
        (TEXT, Level.NONE, ""),
        ("# why\n" + TEXT.replace("50%", "0.5"), Level.PATCH, "files differ"),
        (TEXT.replace("stage half", "stage first_half"), Level.PATCH, "files differ"),
        (TEXT.replace("depth=small", "depth=small sample=balanced"), Level.MAJOR, "comes to another plan"),
        (TEXT.replace("50%", "40%"), Level.MAJOR, "comes to another plan"),
        (TEXT.replace("= 6/12", "= 8/12"), Level.MAJOR, "comes to another plan"),
        (TEXT.replace("4/12 ..", "2/12 .."), Level.MINOR, "which is more"),
        (TEXT.replace("4/12 ..", "5/12 .."), Level.MAJOR, "which is less"),
        (TEXT.replace(" in 4/12 .. 1", ""), Level.MINOR, "anything"),
        (TEXT.replace(" = 6/12", ""), Level.MAJOR, "has no default"),
        (TEXT.replace("choice(sqrt, none)", "choice(sqrt, none, linear)"), Level.MINOR, "can be linear"),
        (TEXT.replace("choice(sqrt, none)", "choice(sqrt)"), Level.MAJOR, "none no more"),
        (TEXT.replace("small", "size"), Level.MAJOR, "has no parameter small"),
        (TEXT + "param more: steps = 10%\n", Level.MINOR, "new parameter more"),
        (TEXT + "param more: steps\n", Level.MAJOR, "has to be given"),
        (TEXT.replace("depth=small", "depth=5"), Level.MAJOR, "another plan"),
        (TEXT.replace("steps=50%", "steps=1300"), Level.MAJOR, "does not compile any more"),
    ],
)
def test_levels(tmp_path: Path, text: str, level: Level, said: str) -> None:
    found = changes(version(tmp_path / "old"), version(tmp_path / "new", text))
    assert max((change.level for change in found), default=Level.NONE) == level, found
    assert any(said in change.what for change in found) or not said


def test_a_difference_at_a_bound_alone_is_found(tmp_path: Path) -> None:
    old = TEXT.replace("depth=small", "depth=small").replace("steps=50%", "steps=1/2")
    new = TEXT.replace("steps=50%", "steps=small").replace("depth=small", "depth=6/12")
    (found,) = changes(version(tmp_path / "old", old), version(tmp_path / "new", new))
    assert found.level == Level.MAJOR and "with small=4/12" in found.what


def test_exports(tmp_path: Path) -> None:
    more = MANIFEST.replace('["small"]', '["small", "large"]')
    old = version(tmp_path / "old")
    new = version(tmp_path / "new", manifest=more, **{"large.raptr": TEXT})
    assert [(change.level, change.schedule) for change in changes(old, new)] == [(Level.MINOR, "large")]
    assert [(change.level, change.schedule) for change in changes(new, old)] == [(Level.MAJOR, "large")]


@pytest.mark.parametrize(
    ("old", "level", "least"),
    [
        ("1.2.3", Level.NONE, "1.2.3"),
        ("1.2.3", Level.PATCH, "1.2.4"),
        ("1.2.3", Level.MINOR, "1.3.0"),
        ("1.2.3", Level.MAJOR, "2.0.0"),
        ("0.2.3", Level.MINOR, "0.2.4"),
        ("0.2.3", Level.MAJOR, "0.3.0"),
    ],
)
def test_versions(old: str, level: Level, least: str) -> None:
    assert required_version(old, level) == least
    assert is_enough(least, least) and is_enough("10.0.0", least)
    assert level == Level.NONE or not is_enough(old, least)


def test_what_compiles_in_neither_version_is_not_called_equal(tmp_path: Path) -> None:
    text = "use other/warm\nrun warm steps=rest\n"
    old, new = version(tmp_path / "old", text), version(tmp_path / "new", "# another\n" + text)
    found = changes(old, new)
    assert [change.level for change in found] == [Level.PATCH, Level.NONE]
    assert "could not be compared" in found[1].what and "no library `other`" in found[1].what
