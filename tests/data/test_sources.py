"""Which files are read, in which order, and what is refused."""

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raptr_dsl.data import collect
from raptr_dsl.data import corpus as corpus_module


def names(*paths: str | os.PathLike[str]) -> list[str]:
    return [document.name for document in collect(paths).documents]


def content(*paths: str | os.PathLike[str]) -> list[bytes]:
    return [b"".join(document.pieces()) for document in collect(paths).documents]


def test_a_folder_gives_its_texts_in_order_of_name(texts):
    assert names(texts) == ["a.md", "b.txt", "deep/er/c.PY"]
    assert content(texts)[1] == (texts / "b.txt").read_bytes()


def test_a_file_named_itself_is_read_whatever_its_suffix(texts):
    assert names(texts / "picture.png", texts / ".e.txt") == [".e.txt", "picture.png"]


def test_the_order_of_paths_and_the_place_do_not_matter(texts, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.copytree(texts, moved)
    hashes = {
        collect(paths).sha256
        for paths in (
            [texts],
            [moved],
            [str(texts) + "/"],
            [texts / "b.txt", texts],
            [texts, texts / "b.txt", texts],
        )
    }
    assert len(hashes) == 1


@pytest.mark.parametrize("change", ["content", "name", "another"])
def test_the_hash_sees_every_change(texts, change):
    before = collect([texts]).sha256
    if change == "content":
        (texts / "b.txt").write_text("other")
    elif change == "name":
        (texts / "b.txt").rename(texts / "bb.txt")
    else:
        (texts / "f.txt").write_text("more")
    assert collect([texts]).sha256 != before


def test_files_of_one_name_are_ordered_by_content(tmp_path):
    """Which of two folders holds which of them is no part of the text."""
    hashes = set()
    for place, order in (("here", ("one", "two", "three")), ("there", ("three", "one", "two"))):
        paths = [tmp_path / place / folder / "same.txt" for folder in "xyz"]
        for path, text in zip(paths, order, strict=True):
            path.parent.mkdir(parents=True)
            path.write_text(text)
        hashes |= {collect(paths).sha256, collect(reversed(paths)).sha256}
    assert len(hashes) == 1


def test_a_linked_folder_is_not_followed_and_a_linked_file_counts_once(texts):
    (texts / "loop").symlink_to(texts)
    (texts / "again.txt").symlink_to(texts / "b.txt")
    assert names(texts) == ["a.md", "again.txt", "deep/er/c.PY"]


def test_names_that_are_no_utf8(tmp_path):
    strange = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.txt"))
    strange.write_text("text")
    assert content(tmp_path) == [b"text"]
    assert len(collect([tmp_path]).sha256) == 64


def test_the_standard_library_is_there():
    corpus = collect(["stdlib"])
    read = [document.name for document in corpus.documents]
    assert read == sorted(read)
    assert {"argparse.py", "json/decoder.py"} <= set(read)
    assert not [name for name in read if name.startswith(("test/", "site-packages/", "_sysconfigdata"))]
    assert all(name.endswith(".py") for name in read)
    assert corpus.size > 5_000_000
    assert "Python Software Foundation" in corpus.notes[0]


def test_a_folder_called_stdlib_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("stdlib").mkdir()
    Path("stdlib", "mine.txt").write_text("mine")
    assert names("./stdlib") == names(Path("stdlib")) == ["mine.txt"]


def test_files_that_are_no_utf8_are_counted(tmp_path):
    (tmp_path / "a.txt").write_bytes("ä".encode("latin-1") * 9)
    (tmp_path / "b.txt").write_bytes("ä".encode()[:1])  # cut within a character
    (tmp_path / "c.txt").write_text("fine ä", "utf-8")
    corpus = collect([tmp_path])
    assert [document.is_utf8 for document in corpus.documents] == [False, False, True]
    only = corpus.only_utf8()
    assert [document.name for document in only.documents] == ["c.txt"]
    assert "2 of 3" in only.notes[0]
    assert "a.txt" in only.notes[0]


def test_every_path_has_its_own_diagnostic(tmp_path, refused):
    (tmp_path / "hollow").mkdir()
    (tmp_path / "empty.txt").touch()
    (tmp_path / "corpus").mkdir()
    paths = [tmp_path / name for name in ("hollow", "corpos", "empty.txt", "empty.txt/x")]
    with refused("data-empty", "data-missing", "data-empty", "data-missing") as found:
        collect(paths)
    assert [item.subject for item in found] == list(map(str, paths))
    assert "*.txt, *.md, *.py" in found[0].message
    assert "corpus?" in found[1].help


def test_a_folder_of_empty_files(tmp_path, refused):
    (tmp_path / "empty.txt").touch()
    with refused("data-empty"):
        collect([tmp_path])


def test_no_paths(refused):
    with refused("data-empty"):
        collect([])


def test_no_utf8_at_all(tmp_path, refused):
    (tmp_path / "a.txt").write_bytes(b"\xff")
    with refused("data-empty") as found:
        collect([tmp_path]).only_utf8()
    assert "`bytes`" in found[0].help


def test_a_pipe_is_refused_and_not_waited_for(tmp_path, refused):
    os.mkfifo(tmp_path / "pipe.txt")
    with refused("data-unreadable") as found:
        collect([tmp_path / "pipe.txt"])
    assert "twice" in found[0].message
    (tmp_path / "a.txt").write_text("text")
    assert names(tmp_path) == ["a.txt"]


def test_what_cannot_be_read_is_an_error_and_never_skipped(texts, refused, monkeypatch):
    real_open = Path.open

    def denied(self, *arguments, **more):
        if self.name in ("a.md", "b.txt"):
            raise PermissionError(13, "Permission denied", str(self))
        return real_open(self, *arguments, **more)

    monkeypatch.setattr(Path, "open", denied)
    with refused("data-unreadable", "data-unreadable") as found:
        collect([texts])
    assert found[0].subject == str(texts / "a.md")
    assert "permission denied" in found[0].message


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind the superuser")
def test_permissions_that_forbid_reading(texts, refused):
    (texts / "b.txt").chmod(0)
    (texts / "deep").chmod(0)
    with refused("data-unreadable", "data-unreadable"):
        collect([texts])
    (texts / "deep").chmod(0o755)


def test_a_link_to_nothing_is_an_error(texts, refused):
    (texts / "gone.txt").symlink_to(texts / "nothing")
    with refused("data-unreadable") as found:
        collect([texts])
    assert found[0].subject == str(texts / "gone.txt")


def test_a_link_to_itself(tmp_path, refused):
    (tmp_path / "self.txt").symlink_to(tmp_path / "self.txt")
    with refused("data-unreadable"):
        collect([tmp_path / "self.txt"])


@pytest.mark.parametrize("change", ["rewritten", "gone"])
def test_a_file_that_changes_after_it_was_hashed(texts, refused, change):
    document = collect([texts]).documents[0]
    if change == "gone":
        document.path.unlink()
    else:
        document.path.write_text("something else")
    with refused("data-unreadable" if change == "gone" else "data-changed"):
        list(document.pieces())


@given(st.lists(st.sampled_from(["\n", "a", "ä", "速", "😀", " " * 7, "\r\n"]), max_size=60), st.integers(8, 20))
def test_pieces_put_together_are_the_file_and_never_cut_a_character(parts, size):
    text = "".join(parts)
    corpus_module.PIECE_BYTES, whole = size, corpus_module.PIECE_BYTES
    try:
        import io

        pieces = list(corpus_module._pieces(io.BytesIO(text.encode())))
    finally:
        corpus_module.PIECE_BYTES = whole
    assert "".join(piece.decode() for piece in pieces) == text
    assert all(0 < len(piece) <= 2 * size for piece in pieces)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_text_come_through_as_they_are(blob):
    import io

    corpus_module.PIECE_BYTES, whole = 8, corpus_module.PIECE_BYTES
    try:
        assert b"".join(corpus_module._pieces(io.BytesIO(blob))) == blob
    finally:
        corpus_module.PIECE_BYTES = whole
