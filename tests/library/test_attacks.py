"""What a hostile library, lock, address or cache tries, each refused: with a code, before anything is written."""

import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from raptr_dsl.diagnostics import RaptrError
from raptr_dsl.library import tree as trees
from raptr_dsl.library.address import parse_address
from raptr_dsl.library.lock import LOCK, Lock, read_lock, write_lock
from raptr_dsl.library.manifest import read_manifest
from raptr_dsl.library.project import Project
from raptr_dsl.library.tree import read_folder, require_safe, require_sound
from raptr_dsl.render import render_text
from tests.library.conftest import SMALL, Make, code, library, manifest, used, write

SECRET = "hunter2"


@pytest.mark.parametrize(
    "path",
    [
        *("../x.raptr", "a/../../x.raptr", "..", ".", "", "/etc/passwd", "//x.raptr", "a//b.raptr", "./a.raptr"),
        *("a\\b.raptr", "..\\x.raptr", "C:\\x.raptr", "C:/x.raptr", "\\\\host\\x.raptr", "a/b/"),
        *("a\0.raptr", "a\n.raptr", "a\x1b[2J.raptr", "a b.raptr", "~/x.raptr", "-rf.raptr", ".git/config.raptr"),
        *("con.raptr", "sub/NUL", "aux.raptr", "com1.raptr", "x.raptr.", "x.raptr::$DATA"),
        *("\uff45vil.raptr", "e\u0301.raptr", "a\u202eb.raptr", "a/" * 150 + "x.raptr", "%2e%2e/x.raptr"),
    ],
)
def test_a_path_that_is_not_one_within_a_library(path: str) -> None:
    assert code(lambda: require_safe(path, "acme")) == "library-path"


@pytest.mark.parametrize("paths", [["a.raptr", "A.raptr"], ["x/a.raptr", "X/A.raptr"], ["a.raptr", "a.raptr/b.raptr"]])
def test_two_paths_that_are_one_elsewhere(paths: list[str]) -> None:
    assert code(lambda: require_sound(paths, "acme")) == "library-path"


@pytest.mark.parametrize(
    "address",
    [
        *("/etc", "/etc/../x", "~/x", "x", "", " ./x", "./a b", "./a/../\0", "./a\\b", "./a\nb = 1", "file:///etc"),
        *("package:", "package:../x", "package:a b", "package:-x", "package:a;rm"),
        *("git+ext::sh -c x", "git+ext::sh", "git+--upload-pack=x", "git+/etc", "git+../x", "git+ftp://h/x"),
        *("git+https://h/x@--exec", "git+https://h/x@a..b", "git+https://h/x#../..", "git+https://h/x#/etc"),
        *("zip://x::https://h/x.zip", "simplecache::https://h/x", "local:///etc", "https://[x", "./" + "a" * 600),
        "./\u202eb",
    ],
)
def test_an_address_that_is_none(address: str) -> None:
    assert code(lambda: parse_address(address, "acme")) in ("library-address", "library-path")


@pytest.mark.parametrize(
    "address",
    [
        f"git+https://user:{SECRET}@h/x@main",
        f"git+https://{SECRET}@h/x",
        f"git+ssh://git:{SECRET}@h/x",
        f"https://user:{SECRET}@h/x",
        f"s3://key:{SECRET}@bucket/x",
        f"https://h/x?token={SECRET}",
        f"git+https://h/x?token={SECRET}",
    ],
)
def test_a_secret_in_an_address_is_refused_and_repeated_nowhere(project: Make, address: str) -> None:
    made = project()
    before = (made.root / "raptr.toml").read_text()
    with pytest.raises(RaptrError) as caught:
        made.add("acme", address)
    assert caught.value.diagnostics[0].code == "library-address"
    assert SECRET not in render_text(caught.value.diagnostics)
    assert (made.root / "raptr.toml").read_text() == before and not (made.root / LOCK).exists()


def test_a_secret_that_git_says_is_not_passed_on(
    project: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write(tmp_path, {"gitconfig": f'[url "file://user:{SECRET}@nowhere/"]\n\tinsteadOf = https://h/\n'})
    monkeypatch.setenv("HOME", str(config))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "gitconfig").rename(tmp_path / ".gitconfig")
    with pytest.raises(RaptrError) as caught:
        project().add("acme", "git+https://h/x")
    assert caught.value.diagnostics[0].code == "library-fetch"
    assert SECRET not in render_text(caught.value.diagnostics)


# --- folders ------------------------------------------------------------------------------------------------


def link_out(folder: Path) -> None:
    (folder / "x.raptr").symlink_to("/etc/passwd")


def link_within(folder: Path) -> None:
    (folder / "x.raptr").symlink_to("small.raptr")


def linked_manifest(folder: Path) -> None:
    (folder / "raptr.toml").rename(folder.parent / "elsewhere.toml")
    (folder / "raptr.toml").symlink_to("../elsewhere.toml")


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "x.raptr")


def a_socket(folder: Path) -> None:
    here = os.getcwd()
    os.chdir(folder)  # the path of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind("x.raptr")
    finally:
        os.chdir(here)


def directory(folder: Path) -> None:
    (folder / "raptr.toml").unlink()
    (folder / "raptr.toml").mkdir()


def huge(folder: Path) -> None:
    with (folder / "x.raptr").open("wb") as file:
        file.truncate(100 * 2**20)


def huge_manifest(folder: Path) -> None:
    with (folder / "raptr.toml").open("ab") as file:
        file.truncate(100 * 2**20)


def many(folder: Path) -> None:
    for number in range(trees.TREE_FILES + 1):
        (folder / f"x{number}.raptr").touch()


def much(folder: Path) -> None:
    for number in range(10):
        (folder / f"x{number}.raptr").write_bytes(b"#" * trees.FILE_BYTES)


def odd_name(folder: Path) -> None:
    (folder / "\u202ex.raptr").touch()


def clash(folder: Path) -> None:
    (folder / "Small.raptr").touch()


@pytest.mark.parametrize(
    ("attack", "expected"),
    [
        (link_out, "library-file"),
        (link_within, "library-file"),
        (linked_manifest, "library-file"),
        (pipe, "library-file"),
        (a_socket, "library-file"),
        (directory, "library-manifest"),
        (huge, "library-limit"),
        (huge_manifest, "library-limit"),
        (many, "library-limit"),
        (much, "library-limit"),
        (odd_name, "library-path"),
        (clash, "library-path"),
    ],
)
def test_a_folder_that_is_not_what_it_seems(
    project: Make, tmp_path: Path, attack: Callable[[Path], None], expected: str
) -> None:
    attack(library(tmp_path / "acme", "acme"))
    made = project(acme="../acme")
    assert code(made.update) == expected
    assert not (made.root / LOCK).exists()


def test_a_linked_folder_is_not_entered(tmp_path: Path) -> None:
    write(tmp_path / "private", {"x.raptr": SMALL})
    folder = library(tmp_path / "acme", "acme")
    (folder / "sub").symlink_to(tmp_path / "private")
    assert read_folder(folder, "acme").keys() == {"raptr.toml", "small.raptr"}


def test_a_file_that_becomes_a_link_after_it_was_locked(project: Make, tmp_path: Path) -> None:
    library(tmp_path / "acme", "acme")
    made = project(acme="../acme")
    made.update()
    (tmp_path / "copy").write_text(SMALL)
    (tmp_path / "acme" / "small.raptr").unlink()
    (tmp_path / "acme" / "small.raptr").symlink_to(tmp_path / "copy")
    assert used(made) == ["library-file"]


def test_a_vendored_folder_that_is_a_link(project: Make, tmp_path: Path) -> None:
    library(tmp_path / "acme", "acme")
    made = project(acme="../acme")
    made.update()
    (made.root / "raptr_libraries").mkdir()
    (made.root / "raptr_libraries" / "acme").symlink_to(tmp_path / "acme")
    assert used(made) == ["library-file"]


@pytest.mark.parametrize("path", ["../../../etc/passwd", "../secret.raptr", "../acme2/x.raptr", "sub/../../x.raptr"])
def test_an_import_that_leaves_its_library(project: Make, tmp_path: Path, path: str) -> None:
    write(tmp_path, {"secret.raptr": SMALL, "acme2/x.raptr": SMALL})
    library(tmp_path / "acme", "acme", text=f'use "{path}" as x\nrun x steps=rest\n')
    made = project(acme="../acme")
    made.update()
    assert used(made) == ["library-path"]


@pytest.mark.parametrize("name", ["../acme/small", "acme/../acme/small", "/etc/passwd", "acme//small"])
def test_a_use_that_is_a_path(project: Make, tmp_path: Path, name: str) -> None:
    library(tmp_path / "acme", "acme")
    made = project(acme="../acme")
    made.update()
    assert used(made, f"use {name}\nstage steps=rest\n")


# --- names --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["std", "Std", "STD", "s\u0442d", "../std", "std/x", "", "con acme", "-x"])
def test_a_name_that_shadows_or_is_none(project: Make, tmp_path: Path, name: str) -> None:
    library(tmp_path / "acme", "acme")
    assert code(lambda: project().add(name, "../acme")) == "library-name"


def test_a_library_that_calls_itself_std(project: Make, tmp_path: Path) -> None:
    library(tmp_path / "acme", "std")
    assert code(lambda: project().add("acme", "../acme")) == "library-name"


def test_a_library_that_poses_as_another(project: Make, tmp_path: Path) -> None:
    library(tmp_path / "evil", "evil")
    assert code(lambda: project().add("acme", "../evil")) == "library-name"


def test_a_library_that_names_std_its_own_dependency(project: Make, tmp_path: Path) -> None:
    library(tmp_path / "acme", "acme", std="../other")
    assert code(project(acme="../acme").update) == "library-name"


@pytest.mark.parametrize(
    "text",
    [
        *("name = 3", "exports = 'x'", "exports = [1]", "exports = ['../x']", "dependencies = []", "version = '1'"),
        *("version = '01.2.3'", "hooks = 'rm'", "name = ", "\xff\xfe", "a" * 100 + "=" + "[" * 5000),
    ],
)
def test_a_manifest_that_is_none(text: str) -> None:
    assert code(lambda: read_manifest(text.encode("latin-1"), "acme")) in ("library-manifest", "library-path")


def test_an_export_that_is_not_there(project: Make, tmp_path: Path) -> None:
    write(tmp_path / "acme", {"raptr.toml": manifest("acme", exports=("gone",))})
    assert code(project(acme="../acme").update) == "library-manifest"


# --- lock and cache -----------------------------------------------------------------------------------------


def tampered(project: Make, tmp_path: Path, change: Callable[[str], str]) -> Project:
    library(tmp_path / "acme", "acme")
    made = project(acme="../acme")
    made.update()
    path = made.root / LOCK
    path.write_text(change(path.read_text()))
    return made


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("1.0.0", "1.0.1"),
        lambda text: text.replace("../acme", "../evil"),
        lambda text: text.replace('"small.raptr" =', '"../small.raptr" ='),
        lambda text: text[: len(text) // 2],
        lambda text: text.replace("checksum", "checksumm"),
        lambda text: text.replace("format = 1", "format = 2"),
        lambda text: "",
        lambda text: "[" * 10_000,
        lambda text: text + "\n[[library]]\nname = 'x'\n",
        lambda text: text + "\x00",
    ],
)
def test_a_lock_that_was_edited(project: Make, tmp_path: Path, change: Callable[[str], str]) -> None:
    made = tampered(project, tmp_path, change)
    assert used(made) == ["library-lock"]


@pytest.mark.parametrize(
    "change",
    [
        {"name": "std"},
        {"name": "../x"},
        {"source": "/etc"},
        {"source": f"git+https://u:{SECRET}@h/x"},
        {"commit": "--upload-pack"},
        {"dependencies": ("ghost",)},
        {"files": {"raptr.toml": "x"}},
        {"files": {}},
        {"files": {"../x": "0" * 64, "raptr.toml": "0" * 64}},
    ],
)
def test_a_lock_that_was_forged_with_its_checksum(project: Make, tmp_path: Path, change: dict[str, object]) -> None:
    library(tmp_path / "acme", "acme")
    made = project(acme="../acme")
    pin = replace(made.update()["acme"], **change)  # type: ignore[arg-type]
    write_lock(made.root, Lock({pin.name: pin}))
    assert code(lambda: read_lock(made.root)) == "library-lock"


@pytest.mark.parametrize("entry", [{"files": {"a.raptr": "x"}}, {"files": ["a.raptr"]}, {"version": 1}])
def test_a_lock_of_std_that_was_forged_with_its_checksum(project: Make, entry: dict[str, object]) -> None:
    made = project()
    locked = made.update()
    assert locked.standard is not None
    write_lock(made.root, Lock({}, replace(locked.standard, **entry)))  # type: ignore[arg-type]
    assert code(lambda: read_lock(made.root)) == "library-lock"


def test_a_cache_that_was_tampered_with(project: Make, tmp_path: Path, cache: Path) -> None:
    library(tmp_path / "acme", "acme")
    made = project(acme="../acme")
    made.update()
    pinned = made.lock()["acme"].files["small.raptr"]
    (tmp_path / "acme").rename(tmp_path / "away")
    kept = cache / pinned[:2] / pinned
    for content in (b"", SMALL.replace("50%", "51%").encode(), b"#" * (trees.FILE_BYTES + 1)):
        kept.write_bytes(content)
        assert used(made) == ["library-changed"]
    kept.unlink()
    kept.mkdir()
    assert used(made) == ["library-missing"]
