"""File → source: everything that can stand at a path."""

import os
import socket
import sys
from pathlib import Path

import pytest

from raptr_dsl.diagnostics import Diagnostic, Diagnostics
from raptr_dsl.render import render_text
from raptr_dsl.source import Source
from raptr_dsl.syntax import load_source, parse
from raptr_dsl.syntax.files import FILE_BYTES

needs_permissions = pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() == 0, reason="this user may read everything"
)


def loaded(path: str | Path) -> tuple[Source | None, list[Diagnostic]]:
    diagnostics = Diagnostics()
    return load_source(path, diagnostics), list(diagnostics)


def refused(path: str | Path) -> Diagnostic:
    """The one diagnostic of a path that has no source; it renders, and names the path."""
    source, (problem,) = loaded(path)
    assert source is None
    assert str(path) in render_text([problem]) or "\0" in str(path)
    return problem


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "with a byte order mark"])
def test_text_is_read_as_it_stands(tmp_path: Path, mark: bytes) -> None:
    path = tmp_path / "a.raptr"
    path.write_bytes(mark + 'doc "ü漢"\r\n\tseed 1'.encode())
    source, problems = loaded(path)
    assert source is not None and not problems
    assert source.text == 'doc "ü漢"\r\n\tseed 1'
    assert source.name == str(path)


def test_an_empty_file_is_an_empty_text(tmp_path: Path) -> None:
    (tmp_path / "a.raptr").touch()
    source, problems = loaded(tmp_path / "a.raptr")
    assert source is not None and source.text == "" and not problems


def test_a_link_to_a_file_is_followed(tmp_path: Path) -> None:
    (tmp_path / "a.raptr").write_text("seed 1")
    (tmp_path / "b.raptr").symlink_to("a.raptr")
    source, _ = loaded(tmp_path / "b.raptr")
    assert source is not None and source.text == "seed 1"


def test_missing_file_suggests_a_neighbour(tmp_path: Path) -> None:
    (tmp_path / "bert.raptr").touch()
    problem = refused(tmp_path / "brt.raptr")
    assert problem.code == "file-missing"
    assert problem.help == f"did you mean {tmp_path / 'bert.raptr'}?"
    assert refused(tmp_path / "nowhere" / "bert.raptr").help == ""


def test_link_to_nowhere(tmp_path: Path) -> None:
    (tmp_path / "a.raptr").symlink_to("b.raptr")
    problem = refused(tmp_path / "a.raptr")
    assert problem.code == "file-missing" and "link" in problem.message


def test_link_to_itself(tmp_path: Path) -> None:
    (tmp_path / "a.raptr").symlink_to("a.raptr")
    assert refused(tmp_path / "a.raptr").code == "file-unreadable"


def test_directory_names_a_schedule_in_it(tmp_path: Path) -> None:
    assert refused(tmp_path).code == "file-is-directory"
    (tmp_path / "b.raptr").touch()
    assert str(tmp_path / "b.raptr") in refused(tmp_path).help


def test_file_within_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.raptr").touch()
    assert refused(tmp_path / "a.raptr" / "b.raptr").code == "file-unreadable"


@pytest.mark.timeout(10)
@pytest.mark.parametrize("device", ["/dev/zero", "/dev/tty"])
def test_device(device: str) -> None:
    if not Path(device).exists():
        pytest.skip(f"no {device} here")
    problem = refused(device)
    assert problem.code == "file-not-regular" and "device" in problem.message


@pytest.mark.timeout(10)
def test_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    problem = refused(tmp_path / "pipe")
    assert problem.code == "file-not-regular" and "pipe" in problem.message


def test_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket has to be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s")
        assert refused("s").code == "file-not-regular"


@needs_permissions
def test_file_and_folder_without_permission(tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir()
    (folder / "a.raptr").write_text("seed 1")
    (folder / "a.raptr").chmod(0)
    assert refused(folder / "a.raptr").code == "file-unreadable"
    folder.chmod(0)
    try:
        assert refused(folder / "a.raptr").code == "file-unreadable"
    finally:
        folder.chmod(0o700)


@pytest.mark.parametrize("reason", ["Input/output error", "Permission denied"])
def test_refusal_of_the_system_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    (tmp_path / "a.raptr").write_text("seed 1")

    def fail(*_: object) -> None:
        raise OSError(5, reason)

    monkeypatch.setattr("builtins.open", fail)
    problem = refused(tmp_path / "a.raptr")
    assert problem.code == "file-unreadable" and reason.lower() in problem.message


@pytest.mark.parametrize("name", ["a\0b.raptr", "a" * 5000], ids=["zero byte", "too long"])
def test_name_that_no_file_can_have(name: str) -> None:
    assert refused(name).code == "file-unreadable"


def test_name_that_is_not_text(tmp_path: Path) -> None:
    source, (problem,) = loaded(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.raptr"))
    assert source is None and problem.code == "file-missing"
    assert render_text([problem]).encode("utf-8")


def test_latin_1_is_placed_at_its_byte(tmp_path: Path) -> None:
    path = tmp_path / "a.raptr"
    path.write_bytes(b"seed 1\n" + "é".encode() + "é".encode("latin-1"))
    problem = refused(path)
    assert problem.code == "file-encoding"
    assert problem.label == "byte 9 is 0xE9"
    assert problem.span is not None and problem.span.source.position(problem.span.start) == (2, 2)


def test_utf_16_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "a.raptr").write_bytes("seed 1".encode("utf-16"))
    assert "UTF-16" in refused(tmp_path / "a.raptr").message


def test_limit_of_a_file_is_4_mib(tmp_path: Path) -> None:
    path = tmp_path / "a.raptr"
    path.write_bytes(b"#" * FILE_BYTES)
    source, problems = loaded(path)
    assert source is not None and not problems
    diagnostics = Diagnostics()
    assert parse(source, diagnostics).statements == () and not len(diagnostics)
    path.write_bytes(b"#" * (FILE_BYTES + 1))
    assert refused(path).code == "file-too-large"
