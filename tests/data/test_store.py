"""Tokens on disk: reused when they are right, made again when they are not, and never half there."""

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from raptr_dsl.data import cache_folder, open_dataset


def stored(cache: Path) -> Path:
    """The only folder of a cache, and nothing beside it."""
    (folder,) = cache.iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["header.json", "tokenizer.json", "tokens.bin"]
    return folder


def written(texts: Path, cache: Path, **options: object) -> int:
    """How often opening reported progress: never, if the tokens were there already."""
    calls: list[tuple[int, int]] = []
    open_dataset([texts], cache=cache, progress=lambda *call: calls.append(call), **options)  # pyright: ignore
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert not calls or calls[-1][0] == calls[-1][1]
    return len(calls)


def test_documents_are_separated_by_the_end_of_text(texts, cache):
    data = open_dataset([texts], cache=cache)
    files = [texts / "a.md", texts / "b.txt", texts / "deep" / "er" / "c.PY"]
    expected = b"".join(file.read_bytes() for file in files)
    assert (data.tokens == 256).sum() == 3
    assert bytes(data.tokens[data.tokens < 256].astype("u1")) == expected
    assert data.tokens[files[0].stat().st_size] == data.tokens[-1] == 256
    assert data.vocab_size == 258


def test_bpe_tokens_are_those_of_the_documents(texts, cache):
    data = open_dataset([texts], cache=cache, tokenizer="bpe", vocab_size=300)
    files = [texts / "a.md", texts / "b.txt", texts / "deep" / "er" / "c.PY"]
    assert data.tokenizer.decode(data.tokens) == "".join(file.read_bytes().decode() for file in files)
    assert (data.tokens == data.tokenizer.end_of_text).sum() == 3
    assert data.tokens.max() < data.vocab_size == 300


@pytest.mark.parametrize("options", [{}, {"tokenizer": "bpe", "vocab_size": 300}], ids=["bytes", "bpe"])
def test_a_second_opening_reads_and_writes_nothing(texts, cache, options):
    assert written(texts, cache, **options) > 0
    before = {path: path.stat().st_mtime_ns for path in stored(cache).iterdir()}
    assert written(texts, cache, **options) == 0
    assert {path: path.stat().st_mtime_ns for path in stored(cache).iterdir()} == before


def test_the_header_says_what_is_there(texts, cache):
    data = open_dataset([texts], cache=cache)
    folder = stored(cache)
    header = json.loads((folder / "header.json").read_text())
    assert header == data.header
    assert header["corpus"]["documents"] == 3
    assert header["tokens"]["count"] == len(data.tokens) == header["corpus"]["bytes"] + 3
    assert (folder / "tokens.bin").stat().st_size == 2 * len(data.tokens)


def test_the_tokens_are_mapped_and_cannot_be_written(texts, cache):
    tokens = open_dataset([texts], cache=cache).tokens
    assert isinstance(tokens.base, np.memmap)
    assert not tokens.flags.writeable


def test_texts_and_tokenizers_have_folders_of_their_own(texts, cache):
    for options in ({}, {"tokenizer": "bpe", "vocab_size": 300}, {"tokenizer": "bpe", "vocab_size": 310}):
        open_dataset([texts], cache=cache, **options)
    (texts / "b.txt").write_text("changed " * 300)
    open_dataset([texts], cache=cache)
    assert len(list(cache.iterdir())) == 4


def truncate(folder: Path) -> None:
    os.truncate(folder / "tokens.bin", (folder / "tokens.bin").stat().st_size // 2)


def truncate_within_a_token(folder: Path) -> None:
    os.truncate(folder / "tokens.bin", 101)


def empty(folder: Path) -> None:
    os.truncate(folder / "tokens.bin", 0)


def lengthen(folder: Path) -> None:
    with (folder / "tokens.bin").open("ab") as file:
        file.write(b"\1\0")


def flip_a_bit(folder: Path) -> None:
    content = bytearray((folder / "tokens.bin").read_bytes())
    content[1000] ^= 1
    (folder / "tokens.bin").write_bytes(content)


def edit_the_header(folder: Path) -> None:
    header = json.loads((folder / "header.json").read_text())
    header["corpus"]["documents"] += 1
    (folder / "header.json").write_text(json.dumps(header))


def edit_the_tokenizer(folder: Path) -> None:
    text = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(text.replace('"', '" ', 1))


def break_the_header(folder: Path) -> None:
    (folder / "header.json").write_text('{"format": ')


def bury_the_header(folder: Path) -> None:
    (folder / "header.json").write_text("[" * 100_000)


def remove_the_header(folder: Path) -> None:
    (folder / "header.json").unlink()


def remove_the_tokens(folder: Path) -> None:
    (folder / "tokens.bin").unlink()


def replace_by_a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("no folder")


def replace_by_a_link_to_nothing(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.symlink_to("nothing")


def empty_the_folder(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def header_of_bytes_that_are_no_text(folder: Path) -> None:
    (folder / "header.json").write_bytes(b"\xff\xfe")


DAMAGES = [
    truncate,
    truncate_within_a_token,
    empty,
    lengthen,
    flip_a_bit,
    edit_the_header,
    edit_the_tokenizer,
    break_the_header,
    bury_the_header,
    remove_the_header,
    remove_the_tokens,
    header_of_bytes_that_are_no_text,
    replace_by_a_file,
    replace_by_a_link_to_nothing,
    empty_the_folder,
]


@pytest.mark.parametrize("options", [{}, {"tokenizer": "bpe", "vocab_size": 300}], ids=["bytes", "bpe"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_what_was_damaged_is_made_again(texts, cache, damage, options):
    first = open_dataset([texts], cache=cache, **options)
    tokens = np.array(first.tokens)
    damage(stored(cache))
    again = open_dataset([texts], cache=cache, **options)
    assert (again.tokens == tokens).all()
    assert again.digest == first.digest
    assert "made again" in again.notes[-1]
    stored(cache)
    assert written(texts, cache, **options) == 0


def test_a_run_keeps_its_tokens_when_another_makes_them_again(texts, cache):
    first = open_dataset([texts], cache=cache)
    batch = first.batch(1, 2, 3, 20)
    remove_the_header(stored(cache))
    open_dataset([texts], cache=cache)
    assert (first.batch(1, 2, 3, 20) == batch).all()


def no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("failing", "successes"), [("fsync", 0), ("fsync", 1), ("fsync", 2), ("fsync", 3), ("replace", 0)]
)
def test_a_full_disk_leaves_nothing(texts, cache, refused, monkeypatch, failing, successes):
    """The n-th call fails: every file, the folder, and its renaming are reached."""
    real, calls = getattr(os, failing), iter(range(1000))

    def after(*arguments: object) -> object:
        return real(*arguments) if next(calls) < successes else no_space()

    monkeypatch.setattr(os, failing, after)
    with refused("data-write") as found:
        open_dataset([texts], cache=cache)
    assert "no space left on device" in found[0].message
    assert found[0].subject == str(cache)
    assert list(cache.iterdir()) == []
    monkeypatch.undo()
    assert written(texts, cache) > 0


def test_a_write_that_really_fails_leaves_nothing(tmp_path, cache, refused):
    (tmp_path / "large.txt").write_text("all work and no play\n" * 20_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with refused("data-write") as found:
            open_dataset([tmp_path / "large.txt"], cache=cache)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert "too large" in found[0].message
    assert list(cache.iterdir()) == []


def test_a_damaged_cache_that_cannot_be_replaced(texts, cache, refused, monkeypatch):
    open_dataset([texts], cache=cache)
    truncate(stored(cache))
    monkeypatch.setattr(os, "replace", no_space)
    with refused("data-write"):
        open_dataset([texts], cache=cache)
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize("where", ["file", "file/below", "null"])
def test_a_cache_that_cannot_be_a_folder(texts, tmp_path, refused, where):
    (tmp_path / "file").write_text("no folder")
    with refused("data-write") as found:
        open_dataset([texts], cache="/dev/null/cache" if where == "null" else tmp_path / where)
    assert "cache" in found[0].help
    assert (tmp_path / "file").read_text() == "no folder"


def test_an_interrupted_run_leaves_nothing(texts, cache):
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_dataset([texts], cache=cache, progress=interrupt)
    assert list(cache.iterdir()) == []


def test_a_file_that_vanishes_meanwhile_leaves_nothing(texts, cache, refused, monkeypatch):
    from raptr_dsl.data import store

    real = store.encode

    def vanishing(*arguments):
        (texts / "deep" / "er" / "c.PY").unlink()
        return real(*arguments)

    monkeypatch.setattr(store, "encode", vanishing)
    with refused("data-unreadable"):
        open_dataset([texts], cache=cache)
    assert list(cache.iterdir()) == []


KILLED = """
import os, signal, sys
from raptr_dsl.data import open_dataset
open_dataset(sys.argv[1:2], cache=sys.argv[2], progress=lambda *_: os.kill(os.getpid(), signal.SIGKILL))
"""


def test_what_a_killed_process_left_is_not_used_and_goes_in_time(texts, cache):
    done = subprocess.run([sys.executable, "-c", KILLED, str(texts), str(cache)], check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = cache.iterdir()
    assert left.name.endswith(".tmp")
    data = open_dataset([texts], cache=cache)
    assert len(data.tokens) == data.header["corpus"]["bytes"] + 3
    assert left.exists()  # its process could still be at work
    long_ago = time.time() - 7200
    for path in (left, *left.iterdir()):
        os.utime(path, (long_ago, long_ago))
    truncate(data_folder(cache))
    open_dataset([texts], cache=cache)
    stored(cache)


def data_folder(cache: Path) -> Path:
    (folder,) = cache.glob("tokens-*")
    return folder


OPEN = """
import sys
from raptr_dsl.data import open_dataset
print(open_dataset(sys.argv[1:2], cache=sys.argv[2]).digest)
"""


def test_ranks_that_start_together_get_the_same(texts, cache):
    command = [sys.executable, "-c", OPEN, str(texts), str(cache)]
    ranks = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    answers = [rank.communicate()[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0] * 4
    assert len(set(answers)) == 1
    stored(cache)


def test_too_little_text(tmp_path, cache, refused):
    (tmp_path / "short.txt").write_text("short")
    with refused("data-too-short") as found:
        open_dataset([tmp_path / "short.txt"], cache=cache)
    assert "6 tokens" in found[0].message


def test_bad_options_are_refused_before_anything_is_read(refused):
    with refused("data-tokenizer"):
        open_dataset(["/nowhere"], tokenizer="bites")


def test_bpe_says_what_it_left_out(texts, cache):
    (texts / "latin.txt").write_bytes(b"\xe4" * 50)
    data = open_dataset([texts], cache=cache, tokenizer="bpe", vocab_size=300)
    assert "1 of 4" in data.notes[0]
    assert data.header["corpus"]["documents"] == 3
    assert (open_dataset([texts], cache=cache).tokens == 0xE4).sum() == 50


@pytest.mark.parametrize(
    ("xdg", "expected"),
    [("/x/y", "/x/y/raptr_dsl"), ("relative", "/h/.cache/raptr_dsl"), ("", "/h/.cache/raptr_dsl")],
)
def test_the_cache_is_where_the_user_keeps_caches(monkeypatch, xdg, expected):
    monkeypatch.setenv("XDG_CACHE_HOME", xdg)
    monkeypatch.setenv("HOME", "/h")
    assert cache_folder() == Path(expected)


def test_the_cache_of_the_user_is_the_default(texts, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    open_dataset([texts])
    stored(tmp_path / "xdg" / "raptr_dsl")


def test_nobody_has_no_home(refused, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    with refused("data-write"):
        cache_folder()


def test_no_framework_and_no_tokenizers_are_imported():
    heavy = {"torch", "jax", "tokenizers", "pydantic", "lark"}
    code = f"import sys, raptr_dsl.data; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
