"""Which files a data path stands for.

A folder contributes its *.txt, *.md and *.py files at any depth, but nothing hidden and no linked folders; a
file named itself is read whatever its suffix. Documents are in the order of their names relative to the path
that was given, so neither the order of the paths, nor where they lie, nor how a shell sorts, decides what a
network sees.
"""

import codecs
import hashlib
import os
import stat
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, NamedTuple

from raptr_dsl.data.corpus import Corpus, Document
from raptr_dsl.data.errors import DataError, shown, unreadable
from raptr_dsl.diagnostics import Diagnostics, did_you_mean

STDLIB = "stdlib"
STDLIB_LICENCE = (
    "stdlib: the sources of Python's standard library, under the Python Software Foundation License, "
    "read where Python is installed"
)
SUFFIXES = (".txt", ".md", ".py")


class _Choice(NamedTuple):
    """Which files of a folder are read: the ends of their names, and the beginnings of names left out."""

    suffixes: tuple[str, ...]
    without_folders: tuple[str, ...]
    without_files: tuple[str, ...]


_ANY_FOLDER = _Choice(SUFFIXES, (".", "__pycache__"), (".",))
# Without tests, and without what differs between two builds of the same Python.
_STDLIB_FOLDER = _Choice(
    (".py",),
    ("__pycache__", "site-packages", "dist-packages", "test", "idle_test", "config-"),
    ("_sysconfigdata", "sitecustomize", "usercustomize"),
)


def collect(paths: Iterable[str | os.PathLike[str]]) -> Corpus:
    """The corpus at these paths; the text `stdlib` stands for the sources of Python's standard library.

    A file reached twice counts once, and files of a folder without a byte in them are left out.

    Raises:
        DataError: one diagnostic for every path that is missing, unreadable or empty.
    """
    problems = Diagnostics()
    found: set[tuple[str, Path]] = set()
    notes: tuple[str, ...] = ()
    given = list(paths)
    if not given:
        problems.add("data-empty", "no data path was given", help=f"name files or folders, or `{STDLIB}`")
    for path in given:
        if path == STDLIB:
            notes = (STDLIB_LICENCE,)
            found.update(_files(Path(sysconfig.get_path("stdlib")), _STDLIB_FOLDER, problems))
        else:
            found.update(_files(Path(path), _ANY_FOLDER, problems))
    documents = _documents(sorted(found, key=lambda item: (os.fsencode(item[0]), item[1])), problems)
    if not documents and not problems.has_errors:
        where = ", ".join(map(shown, given))
        problems.add("data-empty", f"there is not one byte of text at {where}", help="give files with text")
    if problems.has_errors:
        raise DataError(problems.sorted())
    return Corpus(tuple(documents), notes)


def _files(path: Path, choice: _Choice, problems: Diagnostics) -> list[tuple[str, Path]]:
    """The (name, path) of each file that a given path stands for."""
    name = shown(path)
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        problems.add("data-missing", f"{name} does not exist", subject=name, help=_near(path))
        return []
    except OSError as error:
        problems.extend([unreadable(path, error)])
        return []
    if stat.S_ISDIR(status.st_mode):
        return _walk(path, choice, problems)
    if not stat.S_ISREG(status.st_mode):
        problems.add(
            "data-unreadable",
            f"{name} is neither a file nor a folder: data is read twice, so a pipe or a device cannot serve",
            subject=name,
            help="write its content to a file first",
        )
        return []
    if status.st_size == 0:
        problems.add("data-empty", f"{name} is empty", subject=name, help="leave it out, or put text into it")
    return [(path.name, path)]


def _walk(root: Path, choice: _Choice, problems: Diagnostics) -> list[tuple[str, Path]]:
    """The chosen files at any depth."""
    before = len(problems)

    def refuse(error: OSError) -> None:
        problems.extend([unreadable(error.filename, error)])

    files = []
    for folder, folders, names in os.walk(root, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(choice.without_folders)]
        for name in names:
            if not name.lower().endswith(choice.suffixes) or name.startswith(choice.without_files):
                continue
            path = Path(folder, name)
            try:
                if stat.S_ISREG(path.stat().st_mode):
                    files.append((path.relative_to(root).as_posix(), path))
            except OSError as error:
                refuse(error)
    if not files and len(problems) == before:
        problems.add(
            "data-empty",
            f"{shown(root)} has no {', '.join('*' + suffix for suffix in choice.suffixes)} file in it",
            subject=shown(root),
            help="name files themselves if they have other suffixes",
        )
    return files


def _near(path: Path) -> str:
    """What the user may have meant by a path that does not exist."""
    try:
        nearest = did_you_mean(path.name, os.listdir(path.parent))
    except OSError:
        nearest = ""
    if nearest:
        return f"did you mean {shown(path.parent / nearest)}?"
    return f"name files or folders that exist, or `{STDLIB}`"


def _documents(files: list[tuple[str, Path]], problems: Diagnostics) -> list[Document]:
    """Hashes the files; those of one name are ordered by their content."""
    documents: list[Document] = []
    seen: set[tuple[int, int]] = set()
    for name, path in files:
        try:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                identity = (status.st_dev, status.st_ino)
                if identity in seen:
                    continue
                seen.add(identity)
                document = _document(name, path, file)
        except OSError as error:
            problems.extend([unreadable(path, error)])
            continue
        if document.size:
            documents.append(document)
    return sorted(documents, key=lambda document: (os.fsencode(document.name), document.sha256))


def _document(name: str, path: Path, file: BinaryIO) -> Document:
    content, size, is_utf8 = hashlib.sha256(), 0, True
    decoder = codecs.getincrementaldecoder("utf-8")()
    while block := file.read(1 << 20):
        content.update(block)
        size += len(block)
        if is_utf8:
            is_utf8 = _decodes(decoder, block)
    return Document(name, path, size, content.digest(), is_utf8 and _decodes(decoder, b"", final=True))


def _decodes(decoder: codecs.IncrementalDecoder, block: bytes, final: bool = False) -> bool:
    try:
        decoder.decode(block, final)
    except UnicodeDecodeError:
        return False
    return True
