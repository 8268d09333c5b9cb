"""`raptr.lock`: which libraries a project uses, each with its source, commit and the SHA-256 of every file."""

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from raptr_dsl.diagnostics import RaptrError, fail
from raptr_dsl.files import replacing
from raptr_dsl.library.address import parse_address
from raptr_dsl.library.manifest import require_name
from raptr_dsl.library.tree import MANIFEST, require_sound

LOCK = "raptr.lock"
FORMAT = 1
LOCK_BYTES = 16 * 2**20
_DIGEST = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"([0-9a-f]{40}([0-9a-f]{24})?)?")


@dataclass(frozen=True, slots=True)
class Pin:
    """One library as it was when it was locked.

    Attributes:
        source: its address; a folder is relative to the project. commit: of a git repository, else "".
        files: the SHA-256 of each file, by its path in the library.
        dependencies: the names of the libraries that its schedules may `use`.
    """

    name: str
    version: str
    licence: str
    source: str
    commit: str = ""
    exports: tuple[str, ...] = ()
    dependencies: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """One SHA-256 for all files with their paths."""
        return sha256(_canonical(dict(self.files))).hexdigest()


@dataclass(frozen=True, slots=True)
class Standard:
    """`std` as it was when the project was locked: its version, and the SHA-256 of each of its schedules."""

    version: str
    files: Mapping[str, str]


class Lock(dict[str, Pin]):
    """The libraries of a project by name; `standard` is None in a lock that says nothing of `std`."""

    def __init__(self, pins: Mapping[str, Pin], standard: Standard | None = None) -> None:
        super().__init__(pins)
        self.standard = standard


def read_lock(folder: Path) -> Lock | None:
    """The lock of a project; None where there is none.

    Raises:
        RaptrError: `library-lock`: it is not whole, or was edited.
    """
    path = folder / LOCK
    try:
        with path.open("rb") as file:
            data = file.read(LOCK_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _damaged(path, f"it cannot be read: {(error.strerror or 'unknown reason').lower()}") from error
    if len(data) > LOCK_BYTES:
        raise _damaged(path, "it is larger than 16 MiB")
    try:
        content = tomllib.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise _damaged(path, f"it is not TOML: {error}") from error
    if content.get("format") != FORMAT:
        raise _damaged(path, f"its format is {str(content.get('format'))[:20]!r}, and this version reads {FORMAT}")
    checksum = content.pop("checksum", None)
    if checksum != _checksum(content):
        raise _damaged(path, "it was edited, or is not whole: its checksum differs")
    entries = content.get("library", [])
    if not isinstance(entries, list):
        raise _damaged(path, "it has no list of libraries")
    pins = {pin.name: pin for pin in (_pin(entry, path) for entry in entries)}
    lock = Lock(pins, _standard(content.get("std"), path))
    if len(lock) != len(entries):
        raise _damaged(path, "a library stands in it twice")
    for pin in lock.values():
        for name in pin.dependencies:
            if name not in lock:
                raise _damaged(path, f"`{pin.name}` needs `{name}`, which it lacks")
    return lock


def write_lock(folder: Path, lock: Lock) -> None:
    """Writes the lock of a project, as a whole or not at all.

    Raises:
        RaptrError: `output-write`.
    """
    import tomlkit

    entries = [asdict(lock[name]) for name in sorted(lock)]
    standard = {"std": asdict(lock.standard)} if lock.standard else {}
    content = json.loads(json.dumps({"format": FORMAT, **standard, "library": entries}))  # tuples become lists
    document = tomlkit.document()
    document.add(tomlkit.comment("Written by `raptr lib`. It belongs into version control; do not edit it."))
    document.update({"format": FORMAT, "checksum": _checksum(content), **content})
    path = folder / LOCK
    try:
        with replacing(path) as file:
            file.write(tomlkit.dumps(document).encode())
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise fail("output-write", f"this file cannot be written: {reason}", subject=str(path)) from error


def _standard(entry: Any, path: Path) -> Standard | None:
    if entry is None:
        return None
    sound = isinstance(entry, dict) and entry.keys() == {"version", "files"} and isinstance(entry["version"], str)
    if not sound or not _are_digests(entry["files"]):
        raise _damaged(path, "its entry of std is not of its form")
    return Standard(**entry)


def _are_digests(files: Any) -> bool:
    if not isinstance(files, dict):
        return False
    return all(isinstance(value, str) and _DIGEST.fullmatch(value) for value in files.values())


def _pin(entry: Any, path: Path) -> Pin:
    """One entry, every field of it judged as if a stranger had written it."""
    texts = ("name", "version", "licence", "source", "commit")
    lists = ("exports", "dependencies")
    sound = isinstance(entry, dict) and entry.keys() == {*texts, *lists, "files"}
    sound = sound and all(isinstance(entry[key], str) for key in texts)
    sound = sound and all(isinstance(entry[key], list) and all(isinstance(i, str) for i in entry[key]) for key in lists)
    sound = sound and _COMMIT.fullmatch(entry["commit"]) is not None
    if not sound or not _are_digests(entry["files"]):
        raise _damaged(path, "an entry is not of its form")
    try:
        for name in (entry["name"], *entry["dependencies"]):
            require_name(name, str(path))
        parse_address(entry["source"], str(path))
        require_sound(entry["files"], str(path))
    except RaptrError as error:
        raise _damaged(path, error.diagnostics[0].message) from error
    if MANIFEST not in entry["files"]:
        raise _damaged(path, f"`{entry['name']}` has no {MANIFEST}")
    fields: dict[str, Any] = {key: tuple(value) if key in lists else value for key, value in entry.items()}
    return Pin(**fields)


def _checksum(content: dict[str, Any]) -> str:
    return sha256(_canonical(content)).hexdigest()


def _canonical(content: Any) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), default=str).encode()


def _damaged(path: Path, reason: str) -> RaptrError:
    return fail(
        "library-lock",
        f"the lock cannot be used: {reason}",
        subject=str(path),
        help="restore it from version control, or write it anew with `raptr lib lock`",
    )
